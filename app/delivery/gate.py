"""What holds back the messages of one account: requests under way, a breaker, and the time its peer asked for."""

from __future__ import annotations

import asyncio

import structlog

from app.core.clock import Clock
from app.delivery.breaker import Breaker
from app.domain.delivery import Account, Outcome, Receipt

__all__ = ["PAUSE_POLL_SECONDS", "AccountGate"]

log = structlog.get_logger(__name__)

PAUSE_POLL_SECONDS = 0.5
"""How often it is looked whether a paused account was resumed."""


class AccountGate:
    """One a process and account.

    ``places`` bounds the requests under way; ``breaker`` opens after repeated failure.
    """

    def __init__(self, clock: Clock, *, in_flight: int) -> None:
        self.places = asyncio.Semaphore(in_flight)
        self.breaker = Breaker()
        self._clock = clock
        self._held_until: float | None = None

    def wait_seconds(self, account: Account) -> float:
        """Return how long the account's messages have to wait now, 0 when one may leave."""
        if account.is_paused:
            return PAUSE_POLL_SECONDS
        if not self.breaker.is_open and self._held_until is None:
            return 0.0
        now = self._clock.monotonic()
        if self._held_until is not None and self._held_until > now:
            return self._held_until - now
        self._held_until = None
        return self.breaker.wait_seconds(now)

    def hold(self, seconds: float) -> None:
        """Let nothing leave for a while: the peer asked it of one message and meant the account."""
        self._held_until = self._clock.monotonic() + seconds

    def note(self, account: Account, receipt: Receipt) -> None:
        """Learn from an answer, or from none, how the peer is."""
        answered = receipt.status is not None and receipt.status < 500 and receipt.status != 429
        if answered or receipt.outcome in (Outcome.DELIVERED, Outcome.PAUSE_ACCOUNT):
            if self.breaker.succeeded():
                log.info("delivery.account_recovered", account_id=account.id)
        elif receipt.outcome is Outcome.FAILED or receipt.retry_after is not None:
            # Never asked, so nothing was learned of the peer; or it names its own waiting time, and is slow, not broken.
            return
        elif self.breaker.failed(self._clock.monotonic()):
            log.warning("delivery.account_failing", account_id=account.id, error=receipt.error)
