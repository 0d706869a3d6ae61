"""When a buyer has finished speaking: pure arithmetic over the messages waiting in a lane.

A complete question answers at once if nothing earlier in the burst is waiting. A lone greeting, a fragment or a card
waits the quiet time after the last message, up to the longest wait after the first; then all of it is answered in one
reply. Source: the domain rules, 4.1 (2.5 s quiet, 8 s in all).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BurstPart", "Due", "burst_due"]


@dataclass(frozen=True, slots=True)
class BurstPart:
    """One waiting message: when it came in, and whether it can stand alone."""

    received_at_ms: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Due:
    """How many of the waiting messages make the next turn, and when it is due (milliseconds UTC)."""

    count: int
    at_ms: int


def burst_due(parts: Sequence[BurstPart], *, quiet: float, longest: float) -> Due:
    """Decide over the waiting messages, oldest first (at least one); ``quiet`` and ``longest`` in seconds.

    A quiet time of 0 switches merging off: one message a turn, also for a backlog. Messages further apart than the
    burst could have lasted belong to different turns, as they would have if they had been worked off when they came.
    """
    first = parts[0]
    if quiet <= 0:
        return Due(1, first.received_at_ms)
    if first.complete:
        return Due(1, first.received_at_ms)
    quiet_ms, longest_ms = round(quiet * 1000), round(longest * 1000)
    end = first.received_at_ms + longest_ms
    count = 1
    for part in parts[1:]:
        if part.received_at_ms > min(parts[count - 1].received_at_ms + quiet_ms, end):
            break
        count += 1
    return Due(count, min(parts[count - 1].received_at_ms + quiet_ms, end))
