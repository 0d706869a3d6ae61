"""The only reader of randomness: time-sortable ids and secret tokens.

An id is a positive 63-bit integer: 41 bits of milliseconds since 2024, 10 bits naming the process, 12 bits counting
inside the millisecond. Ids of one process rise strictly, even when the wall clock is set back, so that insertion into
an index stays at its right edge and "greater id" means "made later by this process".
"""

from __future__ import annotations

import secrets
import threading
from typing import Protocol

from app.core.clock import Clock

__all__ = ["EPOCH_MS", "Ids", "SystemIds", "id_at"]

EPOCH_MS = 1_704_067_200_000
"""2024-01-01T00:00:00Z: ids last until 2093."""

_COUNTER_BITS = 12
_NODE_BITS = 10
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_TIME_MASK = ~_COUNTER_MASK


class Ids(Protocol):
    """A source of ids and of secrets."""

    def next(self) -> int:
        """Return an id greater than every id this source gave before."""
        ...

    def token(self, size: int = 32) -> str:
        """Return ``size`` random bytes as URL-safe text without padding."""
        ...

    def fraction(self) -> float:
        """Return a random number in [0, 1), for jitter."""
        ...

    def raise_floor(self, floor: int) -> None:
        """Promise that every later id exceeds ``floor``, the highest id already stored."""
        ...


class SystemIds:
    """Ids from a clock and a node number; secrets from the operating system."""

    def __init__(self, clock: Clock, node: int | None = None) -> None:
        """Take the clock, and the process's number from 0 to 1023 (random when not given)."""
        self._clock = clock
        self._node_bits = 0
        self.use_node(secrets.randbits(_NODE_BITS) if node is None else node)
        self._slot = 0
        # Ids are made on the event loop and in the writer's thread.
        self._lock = threading.Lock()

    def use_node(self, node: int) -> None:
        """Be another node from now on: the number, from 0 to 1023, that no other process on this database has."""
        self._node_bits = (node & ((1 << _NODE_BITS) - 1)) << _COUNTER_BITS

    def next(self) -> int:
        # One slot is one counter step inside a millisecond; when the counter overflows, or the clock stands
        # still or goes back, the id simply borrows from the next millisecond.
        now = (self._clock.now_ms() - EPOCH_MS) << _COUNTER_BITS
        with self._lock:
            slot = self._slot + 1
            if slot < now:
                slot = now
            self._slot = slot
        return ((slot & _TIME_MASK) << _NODE_BITS) | self._node_bits | (slot & _COUNTER_MASK)

    def token(self, size: int = 32) -> str:
        return secrets.token_urlsafe(size)

    def fraction(self) -> float:
        return secrets.randbits(53) / (1 << 53)

    def raise_floor(self, floor: int) -> None:
        at = floor >> (_COUNTER_BITS + _NODE_BITS)
        with self._lock:
            self._slot = max(self._slot, ((at + 1) << _COUNTER_BITS))


def id_at(at_ms: int) -> int:
    """Return the lowest id that can have been made at ``at_ms``: a lower bound for range queries by time."""
    return max(0, at_ms - EPOCH_MS) << (_COUNTER_BITS + _NODE_BITS)
