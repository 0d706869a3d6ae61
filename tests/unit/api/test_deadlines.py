"""One timer for many tasks: whoever is late is cancelled, and nobody else."""

import asyncio

import pytest

from app.api.deadlines import Deadlines
from tests.waiting import eventually


async def wait_under(deadlines: Deadlines, gate: asyncio.Event) -> str:
    """Wait for the gate under the time limit; say which came first."""
    task = asyncio.current_task()
    assert task is not None
    deadlines.start(task)
    try:
        await gate.wait()
    except asyncio.CancelledError:
        if deadlines.finish(task):
            task.uncancel()
            return "late"
        raise
    assert not deadlines.finish(task)
    return "in time"


async def test_only_the_late_ones_are_cancelled():
    deadlines = Deadlines(0.05)
    opened, never = asyncio.Event(), asyncio.Event()
    opened.set()
    tasks = [asyncio.create_task(wait_under(deadlines, gate)) for gate in (never, opened, never, opened)]
    assert await asyncio.gather(*tasks) == ["late", "in time", "late", "in time"]


async def test_a_task_that_begins_later_has_its_full_time():
    deadlines, never = Deadlines(0.2), asyncio.Event()
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(wait_under(deadlines, never))
    start = loop.time()
    await eventually(lambda: loop.time() > start + 0.1)
    second_start = loop.time()
    second = asyncio.create_task(wait_under(deadlines, never))
    assert await first == "late"
    assert await second == "late"
    assert loop.time() >= second_start + 0.19


async def test_after_a_quiet_time_tasks_are_watched_again():
    deadlines, never = Deadlines(0.02), asyncio.Event()
    assert await wait_under(deadlines, never) == "late"
    assert await wait_under(deadlines, never) == "late"


async def test_a_cancellation_from_elsewhere_is_not_taken_for_lateness():
    deadlines, never = Deadlines(600), asyncio.Event()
    task = asyncio.create_task(wait_under(deadlines, never))
    await eventually(lambda: deadlines.watched == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert deadlines.watched == 0
