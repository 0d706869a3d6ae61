"""Places for so many at once, and the lines in which the others wait for one.

Stands before the pool of connections, which would have everybody wait equally long, and would take an event loop that
was busy elsewhere for a database that is.
"""

from __future__ import annotations

import asyncio
from collections import deque

from app.storage.overdue import LOOKS

__all__ = ["PATIENT_SECONDS", "STANDSTILL_SECONDS", "Places"]

STANDSTILL_SECONDS = 0.2
"""How long somebody waits in a line that doesn't move. Source: the faults to survive, F17."""

BRIEF_SECONDS = 2.0
"""How long somebody waits in a line that does: the database is only busy, and coming again would make it busier."""

PATIENT_SECONDS = 5.0
"""How long our own work waits, whether the line moves or not; it would come again anyway."""


class Places:
    """So many places, and two lines that are served in turn: of people, and of work that nobody looks on at.

    One event loop's; whoever took a place gives it back.
    """

    def __init__(self, number: int) -> None:
        """``number`` of places, all of them free."""
        self._free = number
        self._brief: deque[asyncio.Future[None]] = deque()
        self._patient: deque[asyncio.Future[None]] = deque()
        self._given = 0
        """Places given back so far: that is how a line moves."""

    def take_now(self) -> bool:
        """Take a place if one is free; return whether."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self, *, patient: bool = False) -> bool:
        """Take a place, waiting for one if need be; return whether one came free in time."""
        if self.take_now():
            return True
        line = self._patient if patient else self._brief
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            if patient:
                await asyncio.wait((place,), timeout=PATIENT_SECONDS)
            else:
                await self._wait_briefly(place)
        except asyncio.CancelledError:
            if place.done():
                self.give_back()
            else:
                line.remove(place)
            raise
        if place.done():
            return True
        line.remove(place)
        return False

    def give_back(self) -> None:
        """Give a place to who waits longest, in the one line and the other by turns; else it is free."""
        self._given += 1
        line = (self._brief or self._patient) if self._given % 2 else (self._patient or self._brief)
        if line:
            line.popleft().set_result(None)
        else:
            self._free += 1

    async def _wait_briefly(self, place: asyncio.Future[None]) -> None:
        # By looks, not by time alone: an event loop that was busy hasn't heard yet of what came free meanwhile.
        look_seconds = STANDSTILL_SECONDS / LOOKS
        given, still = self._given, 0
        for _ in range(round(BRIEF_SECONDS / look_seconds)):
            await asyncio.wait((place,), timeout=look_seconds)
            if place.done():
                return
            still = still + 1 if given == self._given else 0
            given = self._given
            if still == LOOKS:
                return
