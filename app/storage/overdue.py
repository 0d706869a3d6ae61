"""Notices that something takes too long, at the price of two assignments when it doesn't."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Overdue"]

GRACE_SECONDS = 0.1
"""After its time is up it gets that much more: an event loop that was busy has then heard of its end, if it ended."""


class Overdue:
    """Watches one thing at a time on one event loop."""

    def __init__(self, seconds: float, on_overdue: Callable[[], None]) -> None:
        """``on_overdue`` is called once for whatever takes longer than ``seconds``."""
        self._seconds = seconds
        self._on_overdue = on_overdue
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_grace = False

    def begin(self) -> None:
        """Let the time of something begin."""
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._has_grace = False
        if self._timer is None:
            # Left to run when it ends in time, and set anew only then: making a timer for each would cost more.
            self._timer = loop.call_at(self._began + self._seconds, self._look, loop)

    def end(self) -> None:
        """It has ended."""
        self._began = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._began is None:
            return
        due = self._began + self._seconds
        if loop.time() < due:
            self._timer = loop.call_at(due, self._look, loop)
        elif not self._has_grace:
            self._has_grace = True
            self._timer = loop.call_later(GRACE_SECONDS, self._look, loop)
        else:
            self._began = None
            self._on_overdue()
