"""An event loop that doesn't turn is noticed, with the place where it was."""

from __future__ import annotations

import threading
from typing import Any

from structlog.testing import capture_logs

from app.core.metrics import Metrics
from app.core.watchdog import LoopWatchdog
from tests.waiting import eventually, wait_until


def blocked(metrics: Metrics) -> float:
    """How often the loop was found blocked."""
    return metrics.registry.get_sample_value("huoji_loop_blocked_total") or 0.0


async def test_a_call_that_blocks_the_loop_is_counted_once_and_logged_with_its_place() -> None:
    metrics = Metrics()
    watchdog = LoopWatchdog(metrics=metrics, seconds=0.2)
    watchdog.start()
    lines: list[Any] = []
    try:
        with capture_logs() as lines:

            def a_slow_call() -> None:
                # Blocks this thread, and with it the loop, until the watchdog has seen it.
                wait_until(lambda: lines, timeout=20, what="the watchdog")
                threading.Event().wait(0.5)

            a_slow_call()
    finally:
        watchdog.stop()
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("loop.blocked", "error")
    assert line["seconds"] >= 0.2
    assert any("a_slow_call" in place for place in line["at"])
    assert blocked(metrics) == 1


async def test_a_loop_that_turns_is_left_alone() -> None:
    metrics = Metrics()
    watchdog = LoopWatchdog(metrics=metrics, seconds=5.0)
    watchdog.start()
    turns: list[None] = []
    await eventually(lambda: turns.append(None) or len(turns) > 20, what="some turns")
    watchdog.stop()
    assert blocked(metrics) == 0
