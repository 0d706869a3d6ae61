"""The line between Huoji and a marketplace's callback spoilt in every way, while buyers write.

Source: the faults to survive, F21, F22 and F26; the promises, P3 and P4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.chaos.load import Load
from tests.chaos.troubles import TROUBLES, Trouble, at_random, suffer
from tests.faults.proxy import FaultProxy
from tests.huoji_process import HuojiProcess
from tests.installation import install
from tests.marketplace import Marketplace

TAKING_LONG = {"stuck", "questions stuck", "answers stuck"}
"""What Huoji notices only when a request's time is up."""

Program = Callable[..., HuojiProcess]


@pytest.fixture
async def line(market: Marketplace, seed: int) -> AsyncIterator[FaultProxy]:
    """The line to the marketplace."""
    async with FaultProxy(market.port, seed=seed) as proxy:
        market.reached_at = proxy.port
        yield proxy


async def go_through(
    troubles: list[tuple[str, Trouble, float]],
    program: Program,
    folder: Path,
    market: Marketplace,
    line: FaultProxy,
    seed: int,
) -> None:
    """Let buyers write while the line has one trouble after the other; then count."""
    url = f"sqlite:///{folder / 'huoji.db'}"
    await install(url, folder, market)
    huoji = program(url)
    await asyncio.to_thread(huoji.start)
    async with Load(market, huoji.url, seed, buyers=8) as load:
        await load.wait_for(20)
        for name, trouble, seconds in troubles:
            await suffer(line, trouble, seconds)
            # Nothing of this is the webhooks' business.
            await load.wait_for(5, timeout=10)
            assert huoji.running, name
        await load.finish()
        await load.wait_answered(timeout=180)
    assert await asyncio.to_thread(huoji.terminate) == 0, huoji.log[-3000:]
    await load.assert_nothing_lost_doubled_or_disordered(url)


@pytest.mark.timeout(240)
async def test_whatever_happens_to_the_line_replies_arrive_once_each_and_in_order(
    tmp_path: Path, market: Marketplace, line: FaultProxy, program: Program, seed: int
) -> None:
    troubles = [(name, trouble, 0.4) for name, trouble in TROUBLES.items() if name not in TAKING_LONG]
    await go_through(troubles, program, tmp_path, market, line, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_random_troubles_one_after_the_other(
    tmp_path: Path, market: Marketplace, line: FaultProxy, program: Program, seed: int
) -> None:
    await go_through(list(islice(at_random(seed), 60)), program, tmp_path, market, line, seed)
