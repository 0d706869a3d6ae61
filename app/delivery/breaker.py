"""A circuit breaker an account: after repeated failure, wait; then let one message try.

::

    closed ── threshold failures in a row ──► open ── its time is over ──► half-open ── success ──► closed
                                               ▲                              │
                                               └────────── failure ───────────┘ (twice the wait, up to the cap)
"""

from __future__ import annotations

__all__ = ["Breaker"]


class Breaker:
    """Counts failures in a row; times are seconds of a monotonic clock, given by the caller."""

    def __init__(self, *, threshold: int = 5, first_wait: float = 1.0, longest_wait: float = 60.0) -> None:
        """``threshold`` failures in a row open it, for ``first_wait`` seconds and twice as long each further time."""
        self._threshold = threshold
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._failures = 0
        self._openings = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether it holds messages back (or lets only a probe through)."""
        return self._open_until is not None

    def wait_seconds(self, now: float) -> float:
        """Return 0 when a message may be tried now (it is then expected to report back), else seconds to wait."""
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        if self._probing:
            return self._first_wait
        self._probing = True
        return 0.0

    def let_go(self) -> None:
        """Note that a message which was let through came to no verdict; another may try."""
        self._probing = False

    def succeeded(self) -> bool:
        """Note an answer, whatever it said about the message. Returns True when this closed the breaker."""
        was_open = self._open_until is not None
        self._failures = 0
        self._openings = 0
        self._open_until = None
        self._probing = False
        return was_open

    def failed(self, now: float) -> bool:
        """Note that the peer failed or was not reached. Returns True when this opened the breaker anew."""
        self._failures += 1
        if self._open_until is None and self._failures < self._threshold:
            return False
        first = self._open_until is None
        wait = min(self._longest_wait, self._first_wait * 2**self._openings)
        self._openings += 1
        self._open_until = now + wait
        self._probing = False
        return first
