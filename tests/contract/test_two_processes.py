"""Two programs on one PostgreSQL, without Redis: whoever is asked, every conversation is worked off once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Connection, text

from app.core.errors import UnavailableError
from app.domain.messages import Content
from app.pipeline.partitions import PARTITIONS, partition_of
from app.storage.tables import conversations, inbox, messages, outbox
from tests.installation import QUESTIONS, install, on_installation
from tests.marketplace import Marketplace
from tests.running import Callback, Running
from tests.waiting import eventually, pause

pytestmark = pytest.mark.timeout(120)

TEXTS = list(QUESTIONS)
MANY = 24


@pytest.fixture
def callback() -> Callback:
    """The marketplace's end."""
    return Callback()


@pytest.fixture
async def url(postgres_url: str, tmp_path: Path) -> str:
    """An installation with one account."""
    await install(postgres_url, tmp_path, Marketplace())
    return postgres_url


@pytest.fixture
async def two(url: str, callback: Callback) -> AsyncIterator[tuple[Running, Running]]:
    """Two programs that have shared out the partitions."""
    async with Running(url, callback) as one, Running(url, callback) as other:
        await shared(one, other)
        yield one, other


def owned(running: Running) -> int:
    """How many partitions a program works."""
    return len(running.application.leases.epochs)


async def shared(*programs: Running) -> None:
    """Wait until everybody has a fair share and everything is at hand."""
    await eventually(
        lambda: (
            {owned(one) for one in programs} == {PARTITIONS // len(programs)}
            and all(one.application.backlog.is_live for one in programs)
        ),
        what="fair shares",
    )


def owner_of(conversation: str, *programs: Running) -> int:
    """Return the number of the program that works a conversation."""
    partition = partition_of("shop-1", conversation)
    return next(n for n, one in enumerate(programs) if partition in one.application.leases.epochs)


def expired(running: Running) -> Any:
    """A change that lets a program's lease run out, by the database's clock."""

    def change(connection: Connection) -> None:
        connection.execute(
            text("UPDATE processes SET lease_until_ms = 1 WHERE id = :id"),
            {"id": running.application.leases.process_id},
        )

    return change


async def let_expire(running: Running, by: Running) -> None:
    """Let a program's lease run out, while another looks on."""
    await by.application.database.write(expired(running))


def cut_off(running: Running) -> Callable[[], None]:
    """Take a program's database away; the function returned gives it back."""
    database = cast(Any, running.application.database)
    line = cast(Any, running.application.leases)._line
    kept = database.writer._run, database.read, line.run

    async def away(_function: Any) -> Any:
        raise UnavailableError("away")

    async def gone(_function: Any) -> Any:
        raise OSError("away")

    def heal() -> None:
        database.writer._run, database.read, line.run = kept

    database.writer._run, database.read, line.run = gone, away, away
    return heal


async def ask(programs: tuple[Running, Running], conversation: str, first: int, *, count: int = 4) -> None:
    """Say one thing after the other, each to the other program than the one before, each after the last one's ack."""
    for n in range(count):
        status = 0
        while status != 200:
            status = await programs[(first + n) % 2].say(
                TEXTS[n], message_id=f"{conversation}-{n}", conversation_id=conversation
            )
            if status != 200:
                await pause(0.05)


async def all_answered(callback: Callback, names: list[str], *, count: int = 4) -> None:
    """Wait until every message is answered; then each must be, once and in order."""
    await eventually(
        lambda: all(len(callback.delivered(name)) >= count for name in names), what="every answer"
    )
    for name in names:
        assert [one.answers for one in callback.delivered(name)] == [(f"{name}-{n}",) for n in range(count)]


async def test_a_conversation_whose_messages_land_here_and_there_is_answered_in_ack_order(
    two: tuple[Running, Running], callback: Callback
) -> None:
    names = [f"c-{n}" for n in range(MANY)]
    await asyncio.gather(*(ask(two, name, n) for n, name in enumerate(names)))
    await all_answered(callback, names)
    stored = await two[0].rows(inbox)
    assert {row["state"] for row in stored} == {"done"}
    assert sorted(row["seq"] for row in stored) == sorted({row["seq"] for row in stored})
    for row in await two[0].rows(conversations):
        asked = await two[0].rows(
            messages, messages.c.conversation_id == row["id"], messages.c.direction == "in"
        )
        by_seq = sorted(asked, key=lambda one: one["seq"])
        assert [one["external_id"] for one in by_seq] == [f"{row['external_id']}-{n}" for n in range(4)]


async def test_the_same_webhooks_posted_to_both_at_once_have_one_effect(
    two: tuple[Running, Running], callback: Callback
) -> None:
    # F28, and posted in opposite orders
    names = [f"c-{n}" for n in range(20)]

    async def post(program: Running, name: str) -> None:
        # A platform posts again what isn't acked.
        while await program.say(TEXTS[0], message_id=f"{name}-0", conversation_id=name) != 200:
            await pause(0.05)

    posts = [
        post(program, name)
        for program, order in ((two[0], names), (two[1], names[::-1]))
        for _ in range(3)
        for name in order
    ]
    await asyncio.gather(*posts)
    await all_answered(callback, names, count=1)
    assert len(await two[0].rows(inbox)) == len(names)


async def test_one_that_stops_hands_over_what_it_had_and_nothing_is_lost(
    two: tuple[Running, Running], callback: Callback
) -> None:
    one, other = two
    names = [f"c-{n}" for n in range(MANY)]
    for name in names:
        await ask((other, other), name, 0, count=1)
    began = asyncio.get_running_loop().time()
    await one.stop()
    await eventually(lambda: owned(other) == PARTITIONS, what="the other to have everything")
    assert asyncio.get_running_loop().time() - began < 8
    await asyncio.gather(*(ask((other, other), name, 0) for name in names))
    await all_answered(callback, names)


async def test_what_one_that_is_cut_off_left_open_is_finished_by_the_other(
    two: tuple[Running, Running], callback: Callback
) -> None:
    # F40: one host no longer reaches the database; the other takes over, and the first comes back as somebody new.
    one, other = two
    callback.gate = asyncio.Event()
    names = [f"c-{n}" for n in range(MANY)]
    await asyncio.gather(*(ask(two, name, n, count=2) for n, name in enumerate(names)))
    await eventually(lambda: len(callback.waiting) >= MANY, what="replies under way")
    before = one.application.leases.process_id
    heal = cut_off(one)
    await let_expire(one, other)
    await eventually(lambda: owned(other) == PARTITIONS, what="the other to have everything")
    callback.gate.set()
    await asyncio.gather(*(ask((other, other), name, 0) for name in names))
    await all_answered(callback, names)
    heal()
    await eventually(lambda: one.application.leases.process_id not in (before, None), what="a new beginning")
    await shared(one, other)
    await asyncio.gather(*(ask(two, f"d-{n}", n) for n in range(6)))
    await all_answered(callback, [*names, *(f"d-{n}" for n in range(6))])
    assert {len(keys) for keys in callback.keys_by_answered().values()} == {1}


async def test_one_that_was_taken_for_dead_writes_nothing_and_begins_again(
    two: tuple[Running, Running], callback: Callback
) -> None:
    one, other = two
    callback.gate = asyncio.Event()
    names = [f"c-{n}" for n in range(MANY)]
    await asyncio.gather(*(ask((one, one), name, 0, count=2) for name in names))
    await eventually(lambda: len(callback.waiting) >= MANY, what="replies under way")
    before = one.application.leases.process_id

    async def begun_again() -> bool:
        # Whoever looks first decides: it may have renewed what had run out.
        if one.application.leases.process_id == before:
            await let_expire(one, other)
        return one.application.leases.process_id not in (before, None)

    await eventually(begun_again, what="a new beginning")
    callback.gate.set()
    await shared(one, other)
    await asyncio.gather(*(ask(two, name, n) for n, name in enumerate(names)))
    await all_answered(callback, names)
    assert {len(keys) for keys in callback.keys_by_answered().values()} == {1}

    async def all_marked() -> bool:
        return {row["state"] for row in await one.rows(outbox)} == {"sent"}

    await eventually(all_marked, what="every mark")


async def test_what_an_agent_writes_through_any_program_leaves_in_the_order_written(
    url: str, two: tuple[Running, Running], callback: Callback
) -> None:
    lin = await on_installation(
        url,
        lambda installation: installation.add_agent(
            "lin", groups=("presale", "aftersale", "vip", "supervisor")
        ),
    )
    names = [f"c-{n}" for n in range(6)]
    for n, name in enumerate(names):
        await ask(two, name, n, count=1)
    await all_answered(callback, names, count=1)
    ids = {row["external_id"]: row["id"] for row in await two[0].rows(conversations)}
    for n, name in enumerate(names):
        await two[n % 2].conversations.claim(lin, ids[name])

    async def write(n: int, name: str) -> None:
        for k in range(5):
            await two[(n + k) % 2].sending.send(
                lin, ids[name], Content(text=f"第{k}句"), client_message_id=f"{name}-{k}"
            )

    await asyncio.gather(*(write(n, name) for n, name in enumerate(names)))
    await eventually(lambda: all(len(callback.delivered(name)) == 6 for name in names), what="every word")
    for name in names:
        assert [one.text for one in callback.delivered(name)][1:] == [f"第{k}句" for k in range(5)]


async def test_one_that_can_not_renew_acks_and_sends_nothing_until_it_can(
    two: tuple[Running, Running], callback: Callback
) -> None:
    one, _ = two
    heal = cut_off(one)
    await eventually(lambda: not one.application.leases.is_member(), what="it to be unsure")
    assert not any(map(one.application.leases.holds, range(PARTITIONS)))
    assert await one.say(TEXTS[0], message_id="m-0", conversation_id="c") == 503
    assert "leases" in await one.application.readiness()
    heal()
    await eventually(one.application.leases.is_member, what="it to be sure again")
    await ask(two, "c", 0)
    await all_answered(callback, ["c"])


async def test_hints_spare_the_owner_the_poll(url: str, callback: Callback) -> None:
    # Only what the bus is told is looked at here; the programs have none.
    async with Running(url, callback) as one, Running(url, callback) as other:
        await shared(one, other)
        told: list[str] = []
        for program in (one, other):
            cast(Any, program.application.bus).publish = lambda topic, payload="": told.append(
                f"{topic} {payload}"
            )
        name = next(f"c-{n}" for n in range(100) if owner_of(f"c-{n}", one, other) == 1)
        await one.say(TEXTS[0], message_id="m-0", conversation_id=name)
        assert f"inbox {partition_of('shop-1', name)}" in told
        await eventually(lambda: callback.delivered(name), what="an answer")
        before = len([one for one in told if one.startswith("inbox")])
        await other.say(TEXTS[1], message_id="m-1", conversation_id=name)
        await eventually(lambda: len(callback.delivered(name)) == 2, what="an answer")
        assert len([one for one in told if one.startswith("inbox")]) == before
