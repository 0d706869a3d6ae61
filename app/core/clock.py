"""The only reader of the time.

Instants inside Huoji are ``int`` milliseconds since 1970 in UTC (names end in ``_ms``); they compare, sort and store
alike on every database. Lengths are float seconds from the monotonic clock, which no NTP step can turn back.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

__all__ = ["Clock", "SystemClock", "from_rfc3339", "rfc3339", "to_datetime"]


class Clock(Protocol):
    """What everything that needs the time takes as a parameter."""

    def now_ms(self) -> int:
        """Return the wall clock, in milliseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait until this clock has moved on by ``seconds``."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def to_datetime(at_ms: int) -> datetime:
    """Return the aware UTC datetime of an instant in milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def rfc3339(at_ms: int | None) -> str | None:
    """Write an instant as RFC 3339 in UTC with milliseconds, as every API answer has it; None stays None."""
    if at_ms is None:
        return None
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # What is written now is written about now: nearly every call is for one of the last few seconds.
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()[:19]


def from_rfc3339(text: str) -> int:
    """Read an RFC 3339 instant, as milliseconds since 1970 UTC; without an offset it counts as UTC.

    Raises:
        ValueError: the text is no such instant, or lies outside the years 1970 to 9999.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    at_ms = round(moment.timestamp() * 1000)
    if at_ms < 0:
        raise ValueError(f"{text!r} lies before 1970")
    return at_ms
