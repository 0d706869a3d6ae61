"""Time and ids that tests steer; they stand in for app.core.clock and app.core.ids."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import heapq
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from tests.waiting import eventually

START = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
"""When a FakeClock begins unless told: a Saturday, 16:00 in Shanghai."""


class FakeClock:
    """A clock that stands still until it is told to advance; whoever sleeps on it wakes when their time has come."""

    def __init__(self, start: datetime = START) -> None:
        """Begin at `start` (aware)."""
        self._now_ms = round(start.timestamp() * 1000)
        self._monotonic = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = 0

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.fromtimestamp(self._now_ms / 1000, tz=UTC)

    def now_ms(self) -> int:
        """The wall clock in milliseconds since 1970 UTC."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds that only `advance` moves."""
        return self._monotonic

    @property
    def sleeping(self) -> int:
        """How many coroutines wait on this clock; lets a test wait until its subject has gone to sleep."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has moved the clock on by `seconds`; zero or less only yields to others."""
        if seconds <= 0:
            await _yield_once()
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._order += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._order, future))
        await future

    def advance(self, by: timedelta | float) -> None:
        """Move both clocks on by a timedelta or by seconds, and wake whoever is due, the earliest first."""
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        if seconds < 0:
            raise ValueError("time only moves forwards; set_wall turns the wall clock back")
        self._now_ms += round(seconds * 1000)
        self._monotonic += seconds
        # A nanosecond of tolerance: sums of floats may fall short of the due time by their rounding.
        while self._sleepers and self._sleepers[0][0] <= self._monotonic + 1e-9:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    async def run_for(self, by: timedelta | float, *, turns: int = 20) -> None:
        """Move on by `by`, stopping at every due time so that those who wake act at their own moment.

        `turns` is how many rounds of the event loop each stop leaves to the woken.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else float(by)
        end = self._monotonic + seconds
        await _yield_often(turns)
        while True:
            due = min((at for at, _, future in self._sleepers if not future.done()), default=end)
            self.advance(max(0.0, min(due, end) - self._monotonic))
            await _yield_often(turns)
            if due >= end:
                return

    async def run_until(
        self,
        check: Callable[[], object | Awaitable[object]],
        *,
        step: float = 1.0,
        what: str = "the condition",
    ) -> None:
        """Move on by `step` seconds again and again until `check` gives something true.

        For subjects that also wait for real threads (a database): one jump could come before they have gone to sleep
        on this clock, and would then never wake them.
        """

        async def moved_on() -> object:
            found = check()
            found = await found if isinstance(found, Awaitable) else found
            if not found:
                self.advance(step)
            return found

        await eventually(moved_on, what=what)

    def set_wall(self, at: datetime) -> None:
        """Set the wall clock alone, as NTP does: it may go back, the monotonic clock doesn't notice."""
        self._now_ms = round(at.timestamp() * 1000)


class FakeIds:
    """Ids that count up from `start`, tokens that are the same in every run, and chosen fractions."""

    def __init__(self, start: int = 1, fractions: tuple[float, ...] = (0.5,)) -> None:
        """`fractions` are given out in turn, for ever."""
        self._next = start
        self._tokens = 0
        self._fractions = fractions
        self._drawn = 0

    def next(self) -> int:
        """The next whole number."""
        given = self._next
        self._next += 1
        return given

    def token(self, size: int = 32) -> str:
        """`size` bytes as URL-safe text without padding, different at each call."""
        self._tokens += 1
        raw = hashlib.shake_256(f"token {self._tokens}".encode()).digest(size)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def fraction(self) -> float:
        """The next of the chosen fractions."""
        given = self._fractions[self._drawn % len(self._fractions)]
        self._drawn += 1
        return given

    def raise_floor(self, floor: int) -> None:
        """Later ids exceed `floor`."""
        self._next = max(self._next, floor + 1)


async def _yield_once() -> None:
    """Let the event loop run whatever is ready."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


async def _yield_often(turns: int) -> None:
    for _ in range(turns):
        await _yield_once()
