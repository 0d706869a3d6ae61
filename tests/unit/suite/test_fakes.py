"""The steered clock and ids keep the promises of the real ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.core.clock import Clock
from app.core.ids import Ids
from tests.fakes import START, FakeClock, FakeIds


def test_the_fakes_fit_the_protocols(clock: FakeClock, ids: FakeIds):
    taken: tuple[Clock, Ids] = (clock, ids)
    assert taken[0].now_ms() == round(START.timestamp() * 1000)
    assert taken[1].next() == 1


def test_time_moves_only_when_told(clock: FakeClock):
    before = clock.monotonic()
    clock.advance(timedelta(minutes=1, milliseconds=250))
    assert clock.now() == START + timedelta(minutes=1, milliseconds=250)
    assert clock.monotonic() - before == pytest.approx(60.25)


def test_time_never_runs_backwards(clock: FakeClock):
    with pytest.raises(ValueError, match="forwards"):
        clock.advance(-1.0)


def test_setting_the_wall_clock_back_leaves_the_monotonic_one_alone(clock: FakeClock):
    before = clock.monotonic()
    clock.set_wall(datetime(2026, 1, 1, tzinfo=UTC))
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 1, 1, tzinfo=UTC), before)


async def test_sleepers_wake_in_the_order_of_their_time_and_not_before(clock: FakeClock):
    woken: list[tuple[str, float]] = []
    start = clock.monotonic()

    async def nap(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.monotonic() - start))

    async with asyncio.TaskGroup() as group:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
            group.create_task(nap(name, seconds))
        await clock.run_for(0)
        assert clock.sleeping == 3
        await clock.run_for(2.5)
        assert woken == [("early", 1.0), ("middle", 2.0)]
        await clock.run_for(timedelta(seconds=1))
    assert woken[-1] == ("late", 3.0)


async def test_a_loop_that_sleeps_runs_at_each_of_its_times(clock: FakeClock):
    start = clock.monotonic()
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await clock.sleep(10)
            ticks.append(clock.monotonic() - start)

    task = asyncio.create_task(tick())
    await clock.run_for(timedelta(seconds=35))
    task.cancel()
    assert ticks == [10, 20, 30]


def test_ids_rise_above_a_promised_floor(ids: FakeIds):
    assert [ids.next(), ids.next()] == [1, 2]
    ids.raise_floor(100)
    assert ids.next() == 101


def test_tokens_differ_and_repeat_in_the_next_run():
    first, second = FakeIds(), FakeIds()
    given = [first.token(), first.token()]
    assert given == [second.token(), second.token()]
    assert len({*given}) == 2


def test_fractions_come_round_again():
    ids = FakeIds(fractions=(0.1, 0.9))
    assert [ids.fraction() for _ in range(3)] == [0.1, 0.9, 0.1]
