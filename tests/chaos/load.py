"""Buyers who write bursts, whatever happens to the program, and the count of what became of their messages."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.storage.tables import conversations, escalations, inbox, messages, outbox
from tests.installation import QUESTIONS, read_rows
from tests.marketplace import Marketplace
from tests.waiting import eventually, pause

COMPLAINT = "我要投诉你们,打12315"


@dataclass(slots=True)
class Load:
    """Buyers writing bursts of three or four messages, one message after the ack of the one before.

    A tenth of the posts is doubled, a tenth of the conversations begins with a threat that needs a human. What isn't
    acked is posted again, as a platform does.
    """

    market: Marketplace
    url: str | Sequence[str]
    """The program's address, or those of several over one database: each message then goes to any of them."""
    seed: int
    buyers: int = 16
    acked: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Message ids by conversation, in the order of their acks."""
    complaints: set[str] = field(default_factory=set)
    """Conversations that must end with a human."""
    doubled: int = 0
    posts: int = 0
    is_over: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Messages acked so far."""
        return sum(map(len, self.acked.values()))

    async def __aenter__(self) -> Load:
        """Let the buyers begin; they are gone at exit at the latest."""
        self._tasks = [asyncio.create_task(self._buyer(number)) for number in range(self.buyers)]
        return self

    async def __aexit__(self, *unused: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_for(self, more: int, *, timeout: float = 30.0) -> None:
        """Wait until so many more messages were acked."""
        goal = self.total + more
        await eventually(lambda: self.total >= goal, timeout=timeout, what=f"{more} more acks")

    async def finish(self) -> None:
        """Let every buyer finish the burst under way."""
        self.is_over = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)

    async def _buyer(self, number: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        bursts = 0
        while not self.is_over:
            bursts += 1
            conversation = f"c-{number}-{bursts}"
            texts = rng.sample(list(QUESTIONS), 3 + (rng.random() < 0.5))
            if rng.random() < 0.1:
                texts[0] = COMPLAINT
                self.complaints.add(conversation)
            for index, text in enumerate(texts):
                await self._say(rng, conversation, f"{conversation}-{index}", text)

    async def _say(self, rng: random.Random, conversation: str, message: str, text: str) -> None:
        while True:
            self.posts += 1
            again = rng.random() < 0.1
            sent = [
                self.market.say(self._somewhere(rng), text, message_id=message, conversation_id=conversation)
                for _ in range(1 + again)
            ]
            self.doubled += again
            if 200 in await asyncio.gather(*sent):
                self.acked[conversation].append(message)
                break
            await pause(0.03)
        await pause(0.01)

    def _somewhere(self, rng: random.Random) -> str:
        return self.url if isinstance(self.url, str) else rng.choice(self.url)

    # --- counting ---

    async def wait_answered(self, *, timeout: float = 60.0) -> None:
        """Wait until every message of a conversation that the bot has alone is answered."""
        await eventually(lambda: not self.unanswered(), timeout=timeout, what="every reply")

    def unanswered(self) -> list[str]:
        """Messages that no reply answers yet, in conversations without a human."""
        answered = self.market.keys_by_answered()
        return [
            message
            for conversation, sent in self.acked.items()
            if conversation not in self.complaints
            for message in sent
            if message not in answered
        ]

    def doubled_answers(self) -> Mapping[str, set[str]]:
        """Messages answered under more than one key."""
        return {message: keys for message, keys in self.market.keys_by_answered().items() if len(keys) > 1}

    def out_of_order(self) -> list[str]:
        """Conversations whose buyers saw answers in another order than they asked."""
        wrong: list[str] = []
        seen: dict[str, list[str]] = defaultdict(list)
        for reply in self.market.delivered():
            seen[reply.conversation_id].extend(reply.answers)
        for conversation, acked in self.acked.items():
            answered = seen[conversation]
            if answered != [message for message in acked if message in set(answered)]:
                wrong.append(conversation)
        return wrong

    def changed_bodies(self) -> list[str]:
        """Keys under which two different replies came."""
        bodies: dict[str, set[bytes]] = defaultdict(set)
        for reply in self.market.replies:
            bodies[reply.key].add(reply.body)
        return [key for key, found in bodies.items() if len(found) > 1]

    async def assert_nothing_lost_doubled_or_disordered(self, database_url: str) -> None:
        """Count everything, in what buyers saw and in the database of the stopped program."""
        assert self.market.bad_signatures == 0
        assert self.unanswered() == []
        assert self.doubled_answers() == {}
        assert self.out_of_order() == []
        assert self.changed_bodies() == []
        rows = {row["dedupe_key"]: row for row in await read_rows(database_url, inbox)}
        acked = [message for sent in self.acked.values() for message in sent]
        assert [message for message in acked if f"m:{message}" not in rows] == []
        assert Counter(row["state"] for row in rows.values()) == {"done": len(rows)}
        await self._assert_stored_in_order(database_url)
        await self._assert_complaints_reached_humans(database_url)
        states = Counter(row["state"] for row in await read_rows(database_url, outbox))
        # What was cut off after it was taken, or goes to a conversation that nobody waited for, may be on its way still.
        assert set(states) <= {"sent", "open"}, states

    async def _assert_stored_in_order(self, database_url: str) -> None:
        stored: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for row in await read_rows(database_url, messages):
            stored[row["conversation_id"]].append(row)
        for row in await read_rows(database_url, conversations):
            mine = sorted(stored[row["id"]], key=lambda one: one["seq"])
            assert [one["seq"] for one in mine] == list(range(1, len(mine) + 1))
            asked = [one["external_id"] for one in mine if one["direction"] == "in"]
            assert asked == self.acked[row["external_id"]]

    async def _assert_complaints_reached_humans(self, database_url: str) -> None:
        queued = {
            row["id"]: row["external_id"]
            for row in await read_rows(database_url, conversations)
            if row["state"] == "queued"
        }
        open_ones = Counter(row["conversation_id"] for row in await read_rows(database_url, escalations))
        assert set(open_ones) == set(queued)
        assert set(open_ones.values()) <= {1}
        assert set(queued.values()) == self.complaints
