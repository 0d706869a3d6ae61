"""Notices that something takes too long, at the price of two assignments when it doesn't."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Overdue"]

LOOKS = 10
"""It must still be under way at so many looks in a row. Time alone won't do: an event loop that was busy has looked
seldom, and may not have heard yet that it ended."""


class Overdue:
    """Watches one thing at a time on one event loop."""

    def __init__(self, seconds: float, on_overdue: Callable[[], None]) -> None:
        """``on_overdue`` is called once for whatever takes longer than ``seconds``."""
        self._seconds = seconds
        self._on_overdue = on_overdue
        self._looks: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Let the time of something begin."""
        self._looks = 0
        if self._timer is None:
            # Left to run when it ends in time: making a timer for each would cost more.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop)

    def end(self) -> None:
        """It has ended."""
        self._looks = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._looks is None:
            return
        self._looks += 1
        if self._looks > LOOKS:
            self._looks = None
            self._on_overdue()
        else:
            self._timer = loop.call_later(self._seconds / LOOKS, self._look, loop)
