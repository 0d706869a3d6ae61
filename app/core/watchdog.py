"""Notices when the event loop doesn't turn, and says where it was: one slow call stops every buyer and every lease.

A thread of its own looks every half second whether the loop has set its mark since. Source: the faults to survive, F42.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback

import structlog

from app.core.metrics import Metrics

__all__ = ["BLOCKED_SECONDS", "LoopWatchdog"]

log = structlog.get_logger(__name__)

BLOCKED_SECONDS = 2.0
"""Source: the faults to survive, F42."""

MOST_FRAMES = 12


class LoopWatchdog:
    """Watches the event loop that it is started on."""

    def __init__(self, *, metrics: Metrics, seconds: float = BLOCKED_SECONDS) -> None:
        """``seconds`` without a turn count as blocked."""
        self._metrics = metrics
        self._seconds = seconds
        self._pause = seconds / 4
        self._mark = 0.0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin. Call on the loop's own thread."""
        loop = asyncio.get_running_loop()
        self._turn(loop)
        self._thread = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="watchdog", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._mark = time.monotonic()
        self._timer = loop.call_later(self._pause, self._turn, loop)

    def _watch(self, watched: int) -> None:
        reported = 0.0
        while not self._over.wait(self._pause):
            mark = self._mark
            blocked = time.monotonic() - mark
            if blocked < self._seconds or mark == reported:
                continue
            # Once for each time it blocks, however long it takes.
            reported = mark
            self._metrics.loop_blocked.inc()
            log.error("loop.blocked", seconds=round(blocked, 1), at=_frames(watched))


def _frames(thread: int) -> list[str]:
    """Return where a thread is, innermost last: places in the code only, no values."""
    frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage]
    stack = traceback.extract_stack(frame)[-MOST_FRAMES:] if frame is not None else []
    return [f"{entry.filename}:{entry.lineno} {entry.name}" for entry in stack]
