"""A time limit for many tasks at the price of one timer.

``asyncio.timeout`` and a timer of the loop's own cost more than everything else that the webhook edge does, and nearly
none of them is ever needed: a body is there when it is asked for.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Deadlines"]


class Deadlines:
    """Cancels tasks that take longer than a fixed time. Call it on one event loop only."""

    def __init__(self, seconds: float) -> None:
        """``seconds``: how long each task has."""
        self._seconds = seconds
        # In the order of their ends, since all have the same time.
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> int:
        """Tasks whose time is running."""
        return len(self._ends)

    def start(self, task: asyncio.Task[Any]) -> None:
        """Begin a task's time. It is cancelled when ``finish`` doesn't follow in time."""
        loop = task.get_loop()
        end = loop.time() + self._seconds
        self._ends[task] = end
        if self._timer is None:
            self._timer = loop.call_at(end, self._sweep, loop)

    def finish(self, task: asyncio.Task[Any]) -> bool:
        """End a task's time; return whether it was up, and the task cancelled from here."""
        return self._ends.pop(task, None) is None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._ends:
            task, end = next(iter(self._ends.items()))
            if end > now:
                self._timer = loop.call_at(end, self._sweep, loop)
                return
            del self._ends[task]
            task.cancel()
