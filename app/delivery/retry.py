"""When to try again: the schedule as arithmetic, without waiting for anything."""

from __future__ import annotations

__all__ = ["BASE_SECONDS", "CAP_SECONDS", "MAX_RETRY_AFTER_SECONDS", "delay_seconds", "longest_delay_seconds"]

BASE_SECONDS = 1.0
CAP_SECONDS = 300.0
"""Backoff from 1 s to 5 min with full jitter. Source: the reliability notes, F21."""

MAX_RETRY_AFTER_SECONDS = 3600.0
"""A peer may ask for this much patience and no more."""


def delay_seconds(attempts: int, *, fraction: float, retry_after: float | None = None) -> float:
    """Return how long to wait after the ``attempts``-th failure (from 1), in seconds.

    ``fraction`` in [0, 1) is the jitter. What the peer asked for is honoured, capped, and never undercut; a little
    jitter on top keeps many waiting messages from coming back in the same instant.
    """
    if retry_after is not None:
        return min(MAX_RETRY_AFTER_SECONDS, max(0.0, retry_after)) * (1 + 0.1 * fraction)
    ceiling = longest_delay_seconds(attempts)
    # Full jitter with a floor, so that a retry storm is spread but none comes back at once.
    return ceiling * (0.25 + 0.75 * fraction)


def longest_delay_seconds(attempts: int) -> float:
    """Return the most that is waited after ``attempts`` failures when the peer asked for nothing, in seconds."""
    return min(CAP_SECONDS, BASE_SECONDS * 2 ** min(attempts - 1, 16)) if attempts else 0.0
