"""Slowing down whoever guesses passwords, per account and per address."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from app.core.clock import Clock
from app.core.errors import RateLimitedError

__all__ = ["LoginLimits"]

ACCOUNT_TRIES = 5
ADDRESS_TRIES = 20
"""Wrong tries that cost nothing. An address may stand for a whole office, so it gets more."""

LONGEST_DELAY = 300.0
"""Seconds. Long enough to make guessing hopeless, short enough that locking somebody out on purpose gains little."""

FORGET_AFTER = 3600.0
"""Seconds without a try after which a key starts afresh."""

MAX_KEYS = 10_000


@dataclass(slots=True)
class _Tries:
    failures: int = 0
    blocked_until: float = 0.0
    last: float = 0.0


class LoginLimits:
    """Counts tries by key in memory: the delay doubles with each wrong try beyond the free ones.

    A try counts when it begins, so that many at the same instant can't slip through together.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tries: OrderedDict[tuple[str, str], _Tries] = OrderedDict()

    def begin(self, account: str, address: str) -> None:
        """Count a try of an account from an address.

        Raises:
            RateLimitedError: one of the two must wait; ``retry_after`` says for how many seconds.
        """
        now = self._clock.monotonic()
        keys = ((("account", account), ACCOUNT_TRIES), (("address", address), ADDRESS_TRIES))
        wait = max(self._entry(key, now).blocked_until - now for key, _ in keys)
        if wait > 0:
            raise RateLimitedError(
                "too many wrong passwords; wait before trying again",
                code="login_rate_limited",
                retry_after=wait,
            )
        for key, free in keys:
            entry = self._entry(key, now)
            entry.failures += 1
            entry.last = now
            if entry.failures >= free:
                entry.blocked_until = now + min(LONGEST_DELAY, 2.0 ** (entry.failures - free))

    def succeeded(self, account: str, address: str) -> None:
        """Take back the try: the password was right. The account starts afresh."""
        self._tries.pop(("account", account), None)
        entry = self._tries.get(("address", address))
        if entry is not None:
            entry.failures = max(0, entry.failures - 1)
            entry.blocked_until = 0.0

    def _entry(self, key: tuple[str, str], now: float) -> _Tries:
        entry = self._tries.get(key)
        if entry is None or now - entry.last > FORGET_AFTER:
            entry = self._tries[key] = _Tries(last=now)
        self._tries.move_to_end(key)
        while len(self._tries) > MAX_KEYS:
            self._tries.popitem(last=False)
        return entry
