"""When to look into the database: at a hint, else by the clock; hints that come close together make one look."""

from __future__ import annotations

import asyncio
from collections.abc import Set

from app.core.clock import Clock

__all__ = ["Wakeups", "partitions_of"]

SHARE = 8
"""However many hints come, looking may take no more than an eighth of the time."""

LONGEST_REST_SECONDS = 0.5


def partitions_of(payload: str) -> frozenset[int] | None:
    """Read a hint's partitions; None means any, also for a payload that makes no sense."""
    try:
        return frozenset(int(word) for word in payload.split(",")) if payload else None
    except ValueError:
        return None


class Wakeups:
    """Collects what is to be looked at until somebody comes to look."""

    def __init__(self, clock: Clock) -> None:
        """Take the clock that the waiting goes by."""
        self._clock = clock
        self._event = asyncio.Event()
        self._wanted: set[int] = set()
        self._is_all_wanted = False
        self._looked_at_all = clock.monotonic()
        self._rest = 0.0

    def wake(self, partitions: Set[int] | None) -> None:
        """Ask for a look at some partitions, or at all (None)."""
        if partitions is None:
            self._is_all_wanted = True
        else:
            self._wanted |= partitions
        self._event.set()

    def rest(self, seconds: float) -> None:
        """Say how long a look took; the next one waits in proportion."""
        self._rest = min(LONGEST_REST_SECONDS, seconds * (SHARE - 1))

    async def wait(self, seconds: float) -> Set[int] | None:
        """Wait for a hint; return the partitions to look at, None for all of them.

        All of them come up every ``seconds``, however many hints name only some.
        """
        rest, self._rest = self._rest, 0.0
        if rest > 0:
            await self._clock.sleep(rest)
        due = self._looked_at_all + seconds
        left = due - self._clock.monotonic()
        if left > 0:
            sleeper = asyncio.ensure_future(self._clock.sleep(left))
            waker = asyncio.ensure_future(self._event.wait())
            try:
                await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeper.cancel()
                waker.cancel()
        now = self._clock.monotonic()
        is_all = self._is_all_wanted or not self._event.is_set() or now >= due
        wanted, self._wanted = self._wanted, set()
        self._is_all_wanted = False
        self._event.clear()
        if is_all:
            self._looked_at_all = now
            return None
        return wanted
