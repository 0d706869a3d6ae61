"""Any mixture of posting, doubling, crashing, accepting, answering and giving back, against a small model.

Source: the promises P1 to P5; the test methods, 5.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.core.errors import ConflictError
from app.desk.people import User
from app.domain.messages import Content
from app.storage.tables import conversations, escalations, inbox, messages
from tests.chaos.load import COMPLAINT
from tests.conftest import LONG_RUN
from tests.installation import QUESTIONS, install, on_installation
from tests.marketplace import Marketplace
from tests.running import Callback, Running, SwiftClock

CONVERSATIONS = ("c-1", "c-2")
GROUPS = ("presale", "aftersale", "vip", "supervisor")

_prepared: Path | None = None


class Model:
    """What must hold, kept beside the program: the oracle."""

    def __init__(self) -> None:
        self.acked: dict[str, list[str]] = defaultdict(list)
        self.texts: dict[str, str] = {}
        self.owner: dict[str, str] = dict.fromkeys(CONVERSATIONS, "bot")
        self.agent_said: dict[str, list[str]] = defaultdict(list)
        self.silent: set[str] = set()
        """Messages that came while a human had the conversation: the bot never answers them."""

    def post(self, conversation: str, message: str, text: str) -> None:
        """A message was acked."""
        self.texts[message] = text
        self.acked[conversation].append(message)
        if self.owner[conversation] == "human":
            self.silent.add(message)
        elif text == COMPLAINT:
            self.owner[conversation] = "queued"

    def check_replies(self, sent: list[tuple[str, str, tuple[str, ...], str, str]]) -> None:
        """One key an answered message, answers in the order of the questions, agents' words once and in order."""
        keys: dict[str, set[str]] = defaultdict(set)
        seen: dict[str, list[str]] = defaultdict(list)
        said: dict[str, list[str]] = defaultdict(list)
        first: set[str] = set()
        for key, conversation, answers, author, text in sent:
            for message in answers:
                keys[message].add(key)
            if key in first:
                continue
            first.add(key)
            if author == "agent":
                said[conversation].append(text)
            else:
                seen[conversation].extend(answers)
        assert all(len(found) == 1 for found in keys.values()), keys
        spoken = [one for one in sent if one[3] != "agent" and self.silent & set(one[2])]
        assert not spoken, f"the bot spoke into a human's conversation: {spoken}"
        assert said == {name: texts for name, texts in self.agent_said.items() if texts}
        for conversation, answered in seen.items():
            order = [message for message in self.acked[conversation] if message in set(answered)]
            assert answered == order, conversation


class Pipeline(RuleBasedStateMachine):
    """Drives the real program on a real SQLite file; the network beyond it is a fake that sometimes refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="huoji-machine-"))
        self.url = f"sqlite:///{self.folder / 'huoji.db'}"
        self.callback = Callback()
        self.model = Model()
        self.number = 0

    def do(self, job: Awaitable[Any]) -> Any:
        """Run something on the machine's loop."""

        async def work() -> Any:
            return await job

        return self.runner.run(work())

    @initialize()
    def begin(self) -> None:
        """Copy a prepared database, and start."""
        shutil.copy(_prepared_database(), self.folder / "huoji.db")
        self.agents: list[User] = self.do(on_installation(self.url, lambda one: one.users.list()))

        self.running: Running = self.do(self._start(None))

    async def _start(self, clock: SwiftClock | None) -> Running:
        # Fast enough for second tries, slow enough that no agent is taken for gone while the machine is busy.
        clock = clock or SwiftClock(10)
        running = Running(self.url, self.callback, clock=clock)
        await running.__aenter__()
        for agent in self.agents:
            # With a socket open, or what they hold would go back to the queue in a minute of this clock.
            await running.application.presence.connected(agent)
        return running

    @rule(
        conversation=st.sampled_from(CONVERSATIONS), text=st.sampled_from([*QUESTIONS, *QUESTIONS, COMPLAINT])
    )
    def post(self, conversation: str, text: str) -> None:
        """A buyer writes."""
        self.number += 1
        self._post(conversation, f"m-{self.number}", text)

    @rule(
        conversation=st.sampled_from(CONVERSATIONS),
        texts=st.lists(st.sampled_from(list(QUESTIONS)), min_size=2, max_size=4),
    )
    def burst(self, conversation: str, texts: list[str]) -> None:
        """A buyer writes without waiting for answers; in between the other one does."""
        other = CONVERSATIONS[1 - CONVERSATIONS.index(conversation)]
        for text in texts:
            for name in (conversation, other):
                self.number += 1
                self._post(name, f"m-{self.number}", text)

    def _post(self, conversation: str, message: str, text: str) -> None:
        status = self.do(self.running.say(text, message_id=message, conversation_id=conversation))
        assert status == 200
        self.model.post(conversation, message, text)

    @precondition(lambda self: self.model.texts)
    @rule(data=st.data(), times=st.integers(1, 3))
    def duplicate(self, data: st.DataObject, times: int) -> None:
        """The platform posts something again, however old."""
        message = data.draw(st.sampled_from(sorted(self.model.texts)))
        conversation = next(name for name, sent in self.model.acked.items() if message in sent)

        async def again() -> None:
            for status in await asyncio.gather(
                *(
                    self.running.say(
                        self.model.texts[message], message_id=message, conversation_id=conversation
                    )
                    for _ in range(times)
                )
            ):
                assert status == 200

        self.do(again())

    @rule(number=st.integers(0, 3))
    def refuse(self, number: int) -> None:
        """The marketplace fails one of the next replies."""
        self.callback.statuses[len(self.callback.sent) + number] = 503

    @rule(in_order=st.booleans())
    def restart(self, in_order: bool) -> None:
        """The program is stopped, or dies, and starts again on the same file."""

        async def again() -> Running:
            await (self.running.stop() if in_order else self.running.crash())
            return await self._start(self.running.clock)

        self.running = self.do(again())

    @rule(conversation=st.sampled_from(CONVERSATIONS))
    def accept(self, conversation: str) -> None:
        """All agents accept what waits for a human; exactly one gets it."""
        self.do(self.running.settle())

        async def everybody() -> list[Any]:
            row = await self._conversation(conversation)
            open_ones = [] if row is None else await self._open_escalations(row["id"])
            if not open_ones:
                assert self.model.owner[conversation] != "queued"
                return []
            return await asyncio.gather(
                *(self.running.escalations.accept(agent, open_ones[0]["id"]) for agent in self.agents),
                return_exceptions=True,
            )

        answers = self.do(everybody())
        if answers:
            assert sum(isinstance(answer, dict) for answer in answers) == 1
            assert sum(isinstance(answer, ConflictError) for answer in answers) == len(self.agents) - 1
            self.model.owner[conversation] = "human"

    @precondition(lambda self: "human" in self.model.owner.values())
    @rule(data=st.data(), gives_back=st.booleans())
    def work(self, data: st.DataObject, gives_back: bool) -> None:
        """The agent who has a conversation answers, and may give it back to the bot."""
        held = [name for name, owner in self.model.owner.items() if owner == "human"]
        conversation = data.draw(st.sampled_from(held))
        self.number += 1
        text = f"您好，为您处理 {self.number}"
        self.do(self._work(conversation, text, f"a-{self.number}", gives_back))
        self.model.agent_said[conversation].append(text)
        if gives_back:
            self.model.owner[conversation] = "bot"

    async def _work(self, conversation: str, text: str, client_id: str, gives_back: bool) -> None:
        # What came in before is a human's business only once its lane has seen it.
        await self.running.settle()
        row = await self._conversation(conversation)
        assert row is not None
        assert row["state"] == "human"
        agent = next(one for one in self.agents if one.id == row["agent_id"])
        for _ in range(2):
            await self.running.sending.send(
                agent, row["id"], Content(text=text), client_message_id=client_id, confirm=True
            )
        if gives_back:
            await self.running.conversations.release(agent, row["id"])

    async def _conversation(self, name: str) -> dict[str, Any] | None:
        rows = await self.running.rows(conversations, conversations.c.external_id == name)
        return dict(rows[0]) if rows else None

    async def _open_escalations(self, conversation_id: int) -> list[Any]:
        rows = await self.running.rows(escalations, escalations.c.conversation_id == conversation_id)
        return [row for row in rows if row["state"] == "open"]

    def teardown(self) -> None:
        """Let everything settle, then compare with the model."""
        try:
            if hasattr(self, "running"):
                self.do(self._finish())
        finally:
            self.runner.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _finish(self) -> None:
        await self.running.settle()
        stored = await self.running.rows(messages, messages.c.direction == "in")
        taken = await self.running.rows(inbox)
        names = {row["id"]: row["external_id"] for row in await self.running.rows(conversations)}
        states = {row["external_id"]: row["state"] for row in await self.running.rows(conversations)}
        await self.running.stop()
        assert {row["state"] for row in taken} <= {"done"}
        by_conversation: dict[str, list[str]] = defaultdict(list)
        for row in sorted(stored, key=lambda one: (one["conversation_id"], one["seq"])):
            by_conversation[names[row["conversation_id"]]].append(row["external_id"])
        assert by_conversation == self.model.acked
        for name, owner in self.model.owner.items():
            if owner != "bot" and name in states:
                assert states[name] == owner
        self.model.check_replies(
            [
                (one.key, one.conversation_id, one.answers, one.author, one.text)
                for one in self.callback.sent
                if one.taken
            ]
        )


def _prepared_database() -> Path:
    """Make the installation once; every example begins with a copy of it."""
    global _prepared
    if _prepared is None:
        folder = Path(tempfile.mkdtemp(prefix="huoji-prepared-"))
        url = f"sqlite:///{folder / 'huoji.db'}"

        async def prepare() -> None:
            await install(url, folder, Marketplace())

            async def add(installation: Any) -> None:
                for name in ("lin", "wang", "zhao"):
                    await installation.add_agent(name, groups=GROUPS)

            await on_installation(url, add)

        asyncio.run(prepare())
        _prepared = folder / "huoji.db"
    return _prepared


TestPipeline = Pipeline.TestCase
TestPipeline.settings = settings(
    max_examples=200 if LONG_RUN else 20,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
