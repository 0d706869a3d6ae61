"""When to look: at a hint, by the clock, and never all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Set

import pytest

from app.bus.wakeups import LONGEST_REST_SECONDS, SHARE, Wakeups, partitions_of
from tests.fakes import FakeClock


@pytest.mark.parametrize(
    ("payload", "wanted"), [("3", {3}), ("3,17", {3, 17}), ("", None), ("three", None), ("3,", None)]
)
def test_a_hint_names_partitions_or_means_any(payload: str, wanted: set[int] | None):
    assert partitions_of(payload) == wanted


async def look(wakeups: Wakeups, clock: FakeClock, seconds: float) -> Set[int] | str | None:
    """Wait for the next look while the clock moves on by so much."""
    waiting = asyncio.ensure_future(wakeups.wait(1.0))
    await clock.run_for(seconds)
    if not waiting.done():
        waiting.cancel()
        return "nothing"
    return await waiting


async def test_without_hints_everything_comes_up_by_the_clock(clock: FakeClock):
    wakeups = Wakeups(clock)
    assert await look(wakeups, clock, 0.9) == "nothing"
    assert await look(wakeups, clock, 0.2) is None


async def test_hints_that_come_together_make_one_look(clock: FakeClock):
    wakeups = Wakeups(clock)
    wakeups.wake({1})
    wakeups.wake({2, 3})
    assert await look(wakeups, clock, 0.0) == {1, 2, 3}
    assert await look(wakeups, clock, 0.1) == "nothing"
    wakeups.wake({1})
    wakeups.wake(None)
    assert await look(wakeups, clock, 0.0) is None


async def test_hints_for_some_do_not_put_off_the_look_at_all(clock: FakeClock):
    wakeups = Wakeups(clock)
    for _ in range(4):
        wakeups.wake({1})
        assert await look(wakeups, clock, 0.2) == {1}
    wakeups.wake({1})
    await clock.run_for(0.2)
    assert await look(wakeups, clock, 0.0) is None


async def test_a_look_that_took_long_is_followed_by_a_rest(clock: FakeClock):
    wakeups = Wakeups(clock)
    wakeups.rest(0.01)
    wakeups.wake({1})
    assert await look(wakeups, clock, 0.01 * (SHARE - 1) - 0.01) == "nothing"
    wakeups.rest(100)
    wakeups.wake({1})
    assert await look(wakeups, clock, LONGEST_REST_SECONDS + 0.01) == {1}
