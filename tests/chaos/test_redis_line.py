"""Two programs on one PostgreSQL, and Redis between them cut, spoilt, hung, killed and emptied, while buyers write.

Source: the faults to survive, F18 to F20.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.troubles import TROUBLES, at_random, suffer
from tests.faults.proxy import FaultProxy
from tests.huoji_process import HuojiProcess
from tests.installation import install
from tests.marketplace import Marketplace
from tests.redis_process import RedisProcess, redis_command
from tests.waiting import pause

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

QUESTION = "什么时候发货"
POLL_SECONDS = 1.0
"""What Redis may cost at most, when it is away. Source: the faults to survive, F18."""

LENIENCE = 5

Program = Callable[..., HuojiProcess]


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    """A Redis of this test's own."""
    with RedisProcess() as server:
        yield server


async def two_programs(url: str, redis_port: int, program: Program) -> list[HuojiProcess]:
    """Start two programs on one database, both reaching Redis at a port."""
    both = [program(url, HUOJI_REDIS_URL=f"redis://127.0.0.1:{redis_port}/0") for _ in range(2)]
    for process in both:
        await asyncio.to_thread(process.start)
    return both


async def stop(both: list[HuojiProcess]) -> None:
    """Stop programs, one after the other."""
    for process in both:
        assert await asyncio.to_thread(process.terminate, timeout=30) == 0, process.log[-3000:]


@pytest.mark.timeout(240)
async def test_whatever_happens_to_redis_nothing_is_lost_doubled_or_disordered(
    tmp_path: Path, market: Marketplace, postgres_url: str, program: Program, redis: RedisProcess, seed: int
) -> None:
    await install(postgres_url, tmp_path, market)
    async with FaultProxy(redis.port, seed=seed) as line:
        both = await two_programs(postgres_url, line.port, program)
        async with Load(market, [process.url for process in both], seed, buyers=8) as load:
            for trouble in TROUBLES.values():
                await suffer(line, trouble, 0.3)
                await load.wait_for(10, timeout=60)
            redis.freeze()
            await load.wait_for(20, timeout=60)
            redis.thaw()
            assert redis_command(redis.port, "FLUSHALL") == b"+OK"
            await load.wait_for(20, timeout=60)
            redis.kill()
            await load.wait_for(20, timeout=60)
            redis.start()
            await load.wait_for(20, timeout=60)
            await load.finish()
            await load.wait_answered()
        await stop(both)
    await load.assert_nothing_lost_doubled_or_disordered(postgres_url)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_random_troubles_one_after_the_other(
    tmp_path: Path, market: Marketplace, postgres_url: str, program: Program, redis: RedisProcess, seed: int
) -> None:
    await install(postgres_url, tmp_path, market)
    async with FaultProxy(redis.port, seed=seed) as line:
        both = await two_programs(postgres_url, line.port, program)
        async with Load(market, [process.url for process in both], seed, buyers=8) as load:
            for _, trouble, seconds in islice(at_random(seed), 40):
                await suffer(line, trouble, seconds)
                await load.wait_for(10, timeout=60)
            await load.finish()
            await load.wait_answered()
        await stop(both)
    await load.assert_nothing_lost_doubled_or_disordered(postgres_url)


@pytest.mark.timeout(180)
async def test_without_redis_an_answer_comes_a_poll_later_at_most(
    tmp_path: Path, market: Marketplace, postgres_url: str, program: Program, redis: RedisProcess
) -> None:
    # F18
    await install(postgres_url, tmp_path, market)
    both = await two_programs(postgres_url, redis.port, program)
    redis.kill()
    await pause(POLL_SECONDS)
    waits: list[float] = []
    for n in range(20):
        began = time.monotonic()
        status = await market.say(both[n % 2].url, QUESTION, message_id=f"m-{n}", conversation_id=f"c-{n}")
        assert status == 200
        await market.wait_for(1, conversation_id=f"c-{n}", timeout=20)
        waits.append(time.monotonic() - began)
    # The machine's own pauses come on top of one poll for the message and one for nothing else.
    assert statistics.median(waits) < POLL_SECONDS + 0.5
    assert max(waits) < LENIENCE * POLL_SECONDS
    await stop(both)
