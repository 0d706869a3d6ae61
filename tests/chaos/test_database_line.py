"""The line between Huoji and PostgreSQL spoilt in every way, and the server itself restarted, while buyers write.

Source: the faults to survive, F13 to F15; the promises, P1 to P4 and P8.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.storage.writer import ANSWER_SECONDS
from tests.chaos.load import Load
from tests.chaos.troubles import TROUBLES, Trouble, at_random, suffer
from tests.faults.proxy import FaultProxy
from tests.huoji_process import HuojiProcess
from tests.installation import install
from tests.marketplace import Marketplace, message_body
from tests.postgres_process import PostgresProcess
from tests.waiting import eventually, pause

QUESTION = "什么时候发货"
REFUSAL_SECONDS = 1.0
"""Source: the faults to survive, F13."""

SILENCE_SECONDS = ANSWER_SECONDS + 0.5
"""The same for a database that says nothing at all."""

LENIENCE = 5
"""How much longer things may take on a machine that has others to serve."""

Program = Callable[..., HuojiProcess]


@pytest.fixture
async def line(postgres_url: str, seed: int) -> AsyncIterator[FaultProxy]:
    """The line to PostgreSQL."""
    async with FaultProxy(make_url(postgres_url).port or 0, seed=seed) as proxy:
        yield proxy


@pytest.fixture
async def huoji(
    tmp_path: Path, market: Marketplace, line: FaultProxy, postgres_url: str, program: Program
) -> HuojiProcess:
    """A running program that reaches its database over that line."""
    await install(postgres_url, tmp_path, market)
    process = program(make_url(postgres_url).set(port=line.port).render_as_string(hide_password=False))
    await asyncio.to_thread(process.start)
    return process


async def go_through(
    troubles: list[tuple[str, Trouble, float]],
    huoji: HuojiProcess,
    load: Load,
    line: FaultProxy,
    url: str,
) -> None:
    """Let buyers write while the line has one trouble after the other; then count."""
    async with load:
        await load.wait_for(20)
        for name, trouble, seconds in troubles:
            await suffer(line, trouble, seconds)
            try:
                await load.wait_for(10, timeout=60)
            except AssertionError as error:
                raise AssertionError(
                    f"after {name!r}, seed {load.seed}: {error}\n{huoji.log[-3000:]}"
                ) from error
        await load.finish()
        await load.wait_answered()
    assert await asyncio.to_thread(huoji.terminate) == 0, huoji.log[-3000:]
    await load.assert_nothing_lost_doubled_or_disordered(url)


@pytest.mark.timeout(240)
async def test_whatever_happens_to_the_line_nothing_is_lost_doubled_or_disordered(
    huoji: HuojiProcess, market: Marketplace, line: FaultProxy, postgres_url: str, seed: int
) -> None:
    troubles = [(name, trouble, 0.4) for name, trouble in TROUBLES.items()]
    await go_through(troubles, huoji, Load(market, huoji.url, seed, buyers=8), line, postgres_url)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_random_troubles_one_after_the_other(
    huoji: HuojiProcess, market: Marketplace, line: FaultProxy, postgres_url: str, seed: int
) -> None:
    troubles = list(islice(at_random(seed), 60))
    await go_through(troubles, huoji, Load(market, huoji.url, seed, buyers=8), line, postgres_url)


async def test_commits_whose_answers_never_come_are_absorbed_when_the_platform_repeats(
    huoji: HuojiProcess, market: Marketplace, line: FaultProxy, postgres_url: str, seed: int
) -> None:
    # F15
    async with Load(market, huoji.url, seed, buyers=8) as load:
        for _ in range(8):
            await load.wait_for(15)
            before = line.connections
            line.up.spoil(reset_on_answer_to=b"COMMIT")
            await eventually(lambda before=before: line.connections > before, what="a connection anew")
            line.spoil()
        await load.finish()
        await load.wait_answered()
    assert await asyncio.to_thread(huoji.terminate) == 0, huoji.log[-3000:]
    await load.assert_nothing_lost_doubled_or_disordered(postgres_url)


async def refusals(market: Marketplace, huoji: HuojiProcess, number: int) -> list[float]:
    """Post so many messages that must be refused with 503 and Retry-After; return how long each took."""

    async def post(n: int) -> float:
        began = time.monotonic()
        exchange = await market.exchange(
            huoji.url, message_body(QUESTION, message_id=f"refused-{n}", conversation_id=f"refused-{n}")
        )
        assert exchange is not None
        status, headers, _ = exchange
        assert status == 503, n
        assert "retry-after" in {name.lower() for name in headers}
        return time.monotonic() - began

    return list(await asyncio.gather(*(post(n) for n in range(number))))


async def answered_again(market: Marketplace, huoji: HuojiProcess, name: str) -> None:
    """Wait until a message is taken and answered, as before."""
    await asyncio.wait_for(
        market.say_until_acked(huoji.url, QUESTION, message_id=name, conversation_id=name), 60
    )
    await market.wait_for(1, conversation_id=name, timeout=60)


async def status_of(huoji: HuojiProcess, path: str) -> int | None:
    """What a GET of a path answers."""
    return await asyncio.to_thread(huoji.get_status, path)


async def test_while_the_database_is_away_platforms_are_told_to_come_again_and_it_heals_by_itself(
    huoji: HuojiProcess, market: Marketplace, line: FaultProxy
) -> None:
    # F13, F14
    await answered_again(market, huoji, "before")
    await line.cut()
    assert max(await refusals(market, huoji, 20)) < LENIENCE * REFUSAL_SECONDS
    assert await status_of(huoji, "/healthz") == 200
    assert await status_of(huoji, "/readyz") == 503
    await line.accept()
    await answered_again(market, huoji, "after")

    async def ready() -> bool:
        return await status_of(huoji, "/readyz") == 200

    await eventually(ready, what="readiness")


async def test_a_database_that_never_answers_makes_nobody_wait(
    huoji: HuojiProcess, market: Marketplace, line: FaultProxy
) -> None:
    # F13: the connections stay, and nothing comes back over them.
    await answered_again(market, huoji, "before")
    line.spoil(is_stuck=True)
    assert max(await refusals(market, huoji, 20)) < LENIENCE * SILENCE_SECONDS
    line.spoil()
    await answered_again(market, huoji, "after")
    # What was refused and yet stored, since nobody knew, is absorbed when it comes again.
    await answered_again(market, huoji, "refused-0")
    assert all(len(keys) == 1 for keys in market.keys_by_answered().values())


@pytest.mark.timeout(180)
async def test_postgresql_restarted_and_broken_off_under_load_loses_doubles_and_disorders_nothing(
    tmp_path: Path, market: Marketplace, program: Program, seed: int
) -> None:
    # F14
    with PostgresProcess() as server:
        url = server.url(server.create_database())
        await install(url, tmp_path, market)
        huoji = program(url)
        await asyncio.to_thread(huoji.start)
        async with Load(market, huoji.url, seed, buyers=8) as load:
            for end in (server.stop, server.break_off):
                await load.wait_for(40)
                await asyncio.to_thread(end)
                assert huoji.running
                await asyncio.to_thread(server.start)
            await load.wait_for(40, timeout=60)
            await load.finish()
            await load.wait_answered()
        assert await asyncio.to_thread(huoji.terminate) == 0, huoji.log[-3000:]
        await load.assert_nothing_lost_doubled_or_disordered(url)


@pytest.mark.timeout(180)
async def test_commits_that_take_seconds_are_refused_in_time_and_found_afterwards(
    tmp_path: Path, market: Marketplace, program: Program, seed: int
) -> None:
    # F10: a server that waits for a standby that isn't there commits as slowly as one whose disk is dying.
    with PostgresProcess() as server:
        url = server.url(server.create_database())
        await install(url, tmp_path, market)
        huoji = program(url)
        await asyncio.to_thread(huoji.start)
        await answered_again(market, huoji, "before")
        async with Load(market, huoji.url, seed, buyers=8) as load:
            await load.wait_for(20)
            await asyncio.to_thread(server.set, "synchronous_standby_names", "nobody")
            # The server reads its settings when it comes to it.
            await pause(1.0)
            assert max(await refusals(market, huoji, 20)) < LENIENCE * SILENCE_SECONDS
            assert huoji.running
            await asyncio.to_thread(server.set, "synchronous_standby_names", "")
            await load.wait_for(20, timeout=60)
            await load.finish()
            await load.wait_answered()
        for n in range(20):
            await answered_again(market, huoji, f"refused-{n}")
        assert await asyncio.to_thread(huoji.terminate) == 0, huoji.log[-3000:]
        assert load.doubled_answers() == {}
        assert load.out_of_order() == []


@pytest.mark.timeout(180)
async def test_a_program_cut_off_from_the_database_refuses_and_another_takes_its_partitions(
    tmp_path: Path, market: Marketplace, line: FaultProxy, postgres_url: str, program: Program, seed: int
) -> None:
    # F40: the one on the wrong side of a split network.
    await install(postgres_url, tmp_path, market)
    inside = program(postgres_url)
    outside = program(make_url(postgres_url).set(port=line.port).render_as_string(hide_password=False))
    for process in (inside, outside):
        await asyncio.to_thread(process.start)
    async with Load(market, [inside.url, outside.url], seed, buyers=8) as load:
        await load.wait_for(40, timeout=60)
        line.spoil(is_stuck=True)
        # A lease lasts 4 s; what went to the partitions of the lost one is answered after that.
        await load.wait_for(60, timeout=60)
        assert max(await refusals(market, outside, 5)) < LENIENCE * SILENCE_SECONDS
        await load.wait_for(60, timeout=60)
        line.spoil()
        await load.wait_for(40, timeout=60)
        await load.finish()
        await load.wait_answered()
    for process in (inside, outside):
        assert await asyncio.to_thread(process.terminate, timeout=30) == 0, process.log[-3000:]
    await load.assert_nothing_lost_doubled_or_disordered(postgres_url)
