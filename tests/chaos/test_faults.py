"""Faults inside one program: bad messages, floods, duplicates, people and bots at the same moment.

Source: the faults to survive, F27 to F37, by the numbers in the tests' comments.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import ConflictError
from app.desk.people import User
from app.intents.matcher import Matcher
from app.storage.tables import (
    accounts,
    conversations,
    decisions,
    escalations,
    inbox,
    messages,
    notices,
    outbox,
)
from tests.chaos.load import COMPLAINT
from tests.installation import QUESTIONS, SMALL_KNOWLEDGE, install, on_installation
from tests.marketplace import Marketplace, message_body
from tests.running import Callback, Running, SwiftClock
from tests.waiting import eventually

QUESTION = "什么时候发货"


@pytest.fixture
def callback() -> Callback:
    """The marketplace's end."""
    return Callback()


@pytest.fixture
async def url(database_url: str, tmp_path: Path) -> str:
    """An installation with one account, on SQLite and on PostgreSQL."""
    await install(database_url, tmp_path, Marketplace(), accounts={"shop-1": "", "shop-2": ""})
    return database_url


@pytest.fixture
async def running(url: str, callback: Callback) -> AsyncIterator[Running]:
    """The program on it."""
    async with Running(url, callback) as running:
        yield running


async def agent_on(url: str, name: str = "lin") -> User:
    """Add somebody who may accept everything."""
    return await on_installation(
        url,
        lambda installation: installation.add_agent(
            name, groups=("presale", "aftersale", "vip", "supervisor")
        ),
    )


async def _gather(people: Iterable[Awaitable[User]]) -> list[User]:
    return list(await asyncio.gather(*people))


async def wait_queued(running: Running, conversation_id: str) -> dict[str, Any]:
    """Wait until a conversation waits for a human; return its escalation's row."""

    async def look() -> dict[str, Any] | None:
        for row in await running.rows(conversations, conversations.c.external_id == conversation_id):
            if row["state"] == "queued":
                return dict((await running.rows(escalations, escalations.c.conversation_id == row["id"]))[0])
        return None

    found = await eventually(look, what="an escalation")
    assert found is not None
    return found


async def test_one_webhook_a_hundred_times_at_once_has_one_effect(
    running: Running, callback: Callback
) -> None:
    # F28
    body = message_body(QUESTION, message_id="m-1", conversation_id="c-1")
    statuses = await asyncio.gather(*(running.post(body, webhook_id=f"wh-{n}") for n in range(100)))
    assert Counter(statuses) == {200: 100}
    await running.settle()
    (row,) = await running.rows(inbox)
    assert (row["state"], row["duplicates"]) == ("done", 99)
    (reply,) = callback.sent
    assert reply.answers == ("m-1",)


async def test_a_duplicate_after_a_restart_is_absorbed_and_another_body_under_its_id_is_recorded(
    url: str, callback: Callback
) -> None:
    # F29, B12
    async with Running(url, callback) as running:
        await running.say(QUESTION, message_id="m-1", conversation_id="c-1")
        await running.settle()
    async with Running(url, callback) as running:
        assert await running.say(QUESTION, message_id="m-1", conversation_id="c-1") == 200
        assert await running.say("可以开发票吗", message_id="m-1", conversation_id="c-1") == 200
        await running.settle()
        rows = await running.rows(inbox)
    assert len(callback.sent) == 1
    assert [(row["state"], row["duplicates"]) for row in rows] == [("done", 2), ("ignored", 0)]
    assert rows[1]["reason"] == f"id_reused:{rows[0]['id']}"


@pytest.mark.parametrize("burst_quiet", [0.0, 2.5])
async def test_a_poison_message_is_parked_a_human_gets_the_conversation_and_the_lane_goes_on(
    url: str, callback: Callback, burst_quiet: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # F32
    tries = 0
    understand = Matcher.understand

    def fail(self: Matcher, text: str, **more: Any) -> Any:
        nonlocal tries
        if "毒" in text:
            tries += 1
            raise RecursionError("poison")
        return understand(self, text, **more)

    monkeypatch.setattr(Matcher, "understand", fail)
    async with Running(url, callback, burst_quiet=burst_quiet) as running:
        for name, text in (("m-1", QUESTION), ("m-2", "有毒"), ("m-3", "可以开发票吗")):
            assert await running.say(text, message_id=name, conversation_id="c-1") == 200
        await running.say(QUESTION, message_id="m-4", conversation_id="c-2")
        await running.settle()
        states = {row["dedupe_key"]: (row["state"], row["reason"]) for row in await running.rows(inbox)}
        escalation = await wait_queued(running, "c-1")
        stored = [row["external_id"] for row in await running.rows(messages, messages.c.direction == "in")]
    assert states.pop("m:m-2") == ("parked", "failed:RecursionError")
    assert set(states.values()) == {("done", None)}
    assert tries >= 3
    assert escalation["reason"] == "poison"
    assert [name for name in stored if name != "m-4"] == ["m-1", "m-2", "m-3"]
    # What the bot surely knows it may still say while the buyer waits for a human; of the poison it says nothing.
    answered = [reply.answers for reply in callback.delivered("c-1")]
    assert answered[0] == ("m-1",)
    assert ("m-2",) not in answered
    assert [reply.answers for reply in callback.delivered("c-2")] == [("m-4",)]


async def test_a_flood_in_one_conversation_ends_with_a_human_and_costs_the_others_nothing(
    url: str, callback: Callback
) -> None:
    # F31, B40
    await on_installation(
        url,
        lambda installation: installation.shops.set_shop("shop", {"loop_guard": None, "repeat_guard": None}),
    )
    # Not so swift that the guard's minutes pass while a slow machine takes the flood.
    async with Running(url, callback, clock=SwiftClock(4.0)) as running:
        flood = [
            running.say(f"{QUESTION}{n}", message_id=f"f-{n}", conversation_id="flood") for n in range(500)
        ]
        flooding = asyncio.gather(*flood)
        waits: list[float] = []
        for n in range(30):
            began = time.monotonic()
            await running.say(QUESTION, message_id=f"m-{n}", conversation_id=f"c-{n}")
            await eventually(lambda n=n: callback.delivered(f"c-{n}"), what="an answer")
            waits.append(time.monotonic() - began)
        assert set(await flooding) == {200}
        await running.settle(timeout=60)
        (conversation,) = await running.rows(conversations, conversations.c.external_id == "flood")
    assert conversation["state"] == "queued"
    # The guard's minute passes four times as fast here.
    assert len(callback.delivered("flood")) <= 60
    assert sorted(waits)[-2] < 2.0


async def test_a_message_is_decided_by_one_version_even_while_another_is_published(
    url: str, callback: Callback, tmp_path: Path
) -> None:
    # F34
    newer = SMALL_KNOWLEDGE.replace("48 小时内发货哦", "24 小时内发货哦")
    async with Running(url, callback) as running:

        async def ask() -> None:
            for n in range(120):
                await running.say(QUESTION, message_id=f"m-{n}", conversation_id=f"c-{n}")
                await eventually(lambda n=n: callback.delivered(f"c-{n}"), what="an answer")

        async def publish() -> None:
            await eventually(lambda: len(callback.sent) > 10)
            await on_installation(url, lambda installation: installation.publish(tmp_path, newer))

        await asyncio.gather(ask(), publish())
        await eventually(lambda: running.application.knowledge.current.snapshot.version == 2)
        await running.say(QUESTION, message_id="last", conversation_id="last")
        await running.settle()
        decided = {row["conversation_id"]: row["knowledge_version"] for row in await running.rows(decisions)}
        names = {row["id"]: row["external_id"] for row in await running.rows(conversations)}
    expected = {1: "48 小时内", 2: "24 小时内"}
    for conversation_id, version in decided.items():
        (reply,) = callback.delivered(names[conversation_id])
        assert expected[version] in reply.text
    assert set(decided.values()) == {1, 2}
    assert list(decided.values()) == sorted(decided.values())


async def test_a_human_who_accepts_while_the_bots_reply_waits_wins(
    running: Running, url: str, callback: Callback
) -> None:
    # F37
    lin = await agent_on(url)
    callback.default = 503
    await running.say(QUESTION, message_id="m-1", conversation_id="c-1")
    await eventually(lambda: callback.sent, what="a first try")
    (conversation,) = await running.rows(conversations)
    await running.conversations.claim(lin, conversation["id"])
    tried = len(callback.sent)
    callback.default = 200
    await running.settle()
    assert callback.sent[tried:] == []
    (reply,) = await running.rows(outbox)
    assert (reply["state"], reply["error"]) == ("dropped", "superseded")
    (message,) = await running.rows(messages, messages.c.direction == "out")
    assert message["status"] == "dropped"
    await running.say("可以开发票吗", message_id="m-2", conversation_id="c-1")
    await running.settle()
    assert callback.delivered() == []


async def test_a_reply_dropped_for_a_human_stays_dropped_when_the_bot_is_back(
    running: Running, url: str, callback: Callback
) -> None:
    lin = await agent_on(url)
    callback.default = 503
    await running.say(QUESTION, message_id="m-1", conversation_id="c-1")
    await eventually(lambda: callback.sent, what="a first try")
    (conversation,) = await running.rows(conversations)
    await running.conversations.claim(lin, conversation["id"])
    await running.conversations.release(lin, conversation["id"])
    callback.default = 200
    await running.settle()
    assert callback.delivered() == []
    await running.say("可以开发票吗", message_id="m-2", conversation_id="c-1")
    await running.settle()
    assert [reply.answers for reply in callback.delivered()] == [("m-2",)]


@pytest.mark.parametrize("status", [401, 403, 410])
async def test_a_refused_account_pauses_tells_its_admins_and_goes_on_when_resumed(
    url: str, running: Running, callback: Callback, status: int
) -> None:
    # F24, contracts 2
    callback.default = status
    await running.say(QUESTION, message_id="m-1", conversation_id="c-1")
    await eventually(lambda: callback.sent, what="a first try")

    async def paused() -> bool:
        return (await running.rows(accounts, accounts.c.id == "shop-1"))[0]["state"] == "paused"

    await eventually(paused, what="the account to be paused")
    assert await running.say("可以开发票吗", message_id="m-2", conversation_id="c-1") == 200
    await eventually(lambda: not running.application.lanes.waiting)
    (notice,) = await running.rows(notices)
    assert (notice["kind"], notice["subject"]) == ("account_paused", "shop-1")
    assert len(callback.sent) == 1
    callback.default = 200
    await on_installation(url, lambda installation: installation.shops.resume_account("shop-1"))
    await running.settle()
    assert [reply.answers for reply in callback.delivered()] == [("m-1",), ("m-2",)]
    assert len({reply.key for reply in callback.sent}) == 2


async def test_a_refused_reply_hands_its_conversation_to_a_human(
    running: Running, callback: Callback
) -> None:
    # F25
    callback.default = 422
    await running.say(QUESTION, message_id="m-1", conversation_id="c-1")
    escalation = await wait_queued(running, "c-1")
    assert escalation["reason"] == "delivery_failed"
    assert [row["state"] for row in await running.rows(outbox)] == ["failed"]


async def test_replies_that_wait_for_their_second_try_survive_a_crash_in_order(
    tmp_path: Path, callback: Callback
) -> None:
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, Marketplace())
    callback.default = 503
    running = Running(url, callback)
    async with running:
        for n, text in enumerate(QUESTIONS):
            await running.say(text, message_id=f"m-{n}", conversation_id="c-1")
        await eventually(lambda: callback.sent, what="a first try")
        await running.crash()
    callback.default = 200
    async with Running(url, callback, clock=running.clock) as again:
        await again.settle()
    assert [reply.answers for reply in callback.delivered()] == [(f"m-{n}",) for n in range(len(QUESTIONS))]
    assert len({reply.key for reply in callback.sent}) == len(QUESTIONS)


@pytest.mark.parametrize(
    "rounds", [40, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
async def test_a_hundred_agents_accept_at_once_and_one_wins(
    url: str, callback: Callback, rounds: int
) -> None:
    # F35; the desk's own tests do it over sockets and look at every answer.
    groups = ("presale", "aftersale", "vip", "supervisor")
    agents = await on_installation(
        url,
        lambda installation: _gather(installation.add_agent(f"agent-{n}", groups=groups) for n in range(100)),
    )
    # Nobody here has a socket: with a swift clock they would count as gone before the end.
    async with Running(url, callback, clock=SwiftClock(1.0)) as running:
        names = [f"c-{n}" for n in range(rounds)]
        for start in range(0, rounds, 50):
            await asyncio.gather(
                *(
                    running.say(COMPLAINT, message_id=f"m-{name}", conversation_id=name)
                    for name in names[start : start + 50]
                )
            )
        await running.settle(timeout=60)
        rows = await running.rows(escalations)
        assert len(rows) == rounds
        for row in rows:
            answers = await asyncio.gather(
                *(running.escalations.accept(agent, row["id"]) for agent in agents), return_exceptions=True
            )
            won = [agent for agent, answer in zip(agents, answers, strict=True) if isinstance(answer, dict)]
            lost = [answer for answer in answers if isinstance(answer, ConflictError)]
            assert len(won) == 1
            assert len(lost) == 99
            (held,) = await running.rows(conversations, conversations.c.id == row["conversation_id"])
            assert held["agent_id"] == won[0].id
