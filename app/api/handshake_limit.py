"""How many agents' sockets may begin: so many a second, so many at once; the others are told when to come again.

Source: the reliability notes, F39: after a deploy everybody comes back in the same second.
"""

from __future__ import annotations

from app.core.clock import Clock
from app.core.ids import Ids

__all__ = ["HANDSHAKES_PER_SECOND", "HandshakeLimit"]

HANDSHAKES_PER_SECOND = 100.0
"""What a process can do: 900 sockets with their hellos took 9 to 12 ms of CPU each. At more, webhooks would wait."""

BURST_SECONDS = 2.0
"""What may begin at once after a quiet time, as seconds of the rate; so many handshakes may be under way, too."""

PROMISED_SHARE = 0.8
"""Of the rate, what is promised to those who were turned away; the rest is for whoever comes for the first time."""

SOONEST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
"""Whoever would have to wait longer comes to ask again in the meantime."""

JITTER_SECONDS = 1.0
RESTART_SECONDS = 5.0
"""Everybody is gone from a server that restarts; over how long they come back, at the least."""


class HandshakeLimit:
    """A bucket of handshakes that fills at a rate, and the moments promised to those for whom it had none left.

    Each of them gets a moment of their own, one after the other, so that they come back as fast as they can be let in
    and not in waves. Several processes each have their own; a newcomer may be let in before somebody who waits.
    """

    def __init__(self, *, clock: Clock, ids: Ids, per_second: float = HANDSHAKES_PER_SECOND) -> None:
        """``per_second`` > 0: handshakes that may begin a second."""
        self._clock = clock
        self._ids = ids
        self._rate = per_second
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._left = self._most
        self._filled_at = clock.monotonic()
        self._promised_until = self._filled_at
        self._under_way = 0

    def begin(self) -> float | None:
        """Let one handshake in, which must ``end``: None. Else the seconds, a little random, to come again after."""
        now = self._clock.monotonic()
        self._left = min(self._most, self._left + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._left >= 1 and self._under_way < self._most:
            self._left -= 1
            self._under_way += 1
            return None
        return self._promise(now)

    def end(self) -> None:
        """One that was let in knows who it is, or has failed."""
        self._under_way -= 1

    def restart_wait(self, sockets: int) -> float:
        """Return a random wait for one of ``sockets`` that a stopping server sends away, in seconds."""
        spread = max(RESTART_SECONDS, sockets / (self._rate * PROMISED_SHARE))
        return self._ids.fraction() * min(spread, LONGEST_SECONDS)

    def _promise(self, now: float) -> float:
        at = max(self._promised_until, now + SOONEST_SECONDS) + 1 / (self._rate * PROMISED_SHARE)
        if at - now > LONGEST_SECONDS:
            # What can't be promised is spread, or all of them would ask again in the same moment.
            return LONGEST_SECONDS * (1 + self._ids.fraction()) / 2
        self._promised_until = at
        return at - now + self._ids.fraction() * JITTER_SECONDS
