"""How often to look without a hint."""

from __future__ import annotations

from app.bus.base import Bus

__all__ = ["POLL_SECONDS", "POLL_WITHOUT_BUS_SECONDS", "poll_seconds"]

POLL_SECONDS = 1.0
"""With hints: for the few that get lost. Source: the contracts page, section 1: processes poll, ≤ 1 s."""

POLL_WITHOUT_BUS_SECONDS = 0.25
"""Without hints. A buyer's threat passes four processes' eyes on its way to an agent (the owner of its partition, the
router, the console's log, the sender), each of which looks by itself then."""


def poll_seconds(bus: Bus) -> float:
    """Return how long to wait before the next look that nobody asked for."""
    return POLL_SECONDS if bus.carries() else POLL_WITHOUT_BUS_SECONDS
