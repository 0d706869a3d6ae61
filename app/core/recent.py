"""What was finished lately: so that a read begun before it was can't bring it back."""

from __future__ import annotations

from app.core.clock import Clock

__all__ = ["Finished"]

KEPT = 10_000
"""How many are remembered at least. A read takes seconds at most, and while the database is that slow not so many are
finished."""


class Finished:
    """Ids with the moment they were done; the oldest are forgotten."""

    def __init__(self, clock: Clock, *, kept: int = KEPT) -> None:
        """Take the clock whose monotonic time reads are dated by."""
        self._clock = clock
        self._kept = kept
        self._latest: dict[int, float] = {}
        self._before: dict[int, float] = {}

    def note(self, item_id: int) -> None:
        """Remember that something is done now."""
        self._latest[item_id] = self._clock.monotonic()
        if len(self._latest) > self._kept:
            self._before, self._latest = self._latest, {}

    def since(self, item_id: int, seen_at: float) -> bool:
        """Whether it was done after ``seen_at``, so that having been open then means nothing now."""
        done_at = self._latest.get(item_id, self._before.get(item_id))
        return done_at is not None and done_at > seen_at
