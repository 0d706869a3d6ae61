"""The marketplace's outgoing half: signed webhooks to this very server, tried again as a platform would."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from app.channels import signing
from app.channels.http import OutcomeUnknownError, PeerUnavailableError, Sender
from app.core.clock import Clock, rfc3339
from app.domain.delivery import Account, WireRequest, WireResponse
from app.sandbox.chats import Push

__all__ = ["Poster"]

TIMEOUT_SECONDS = 5.0
"""How long the sandbox waits for an ack: what the strictest marketplaces allow."""

WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits between attempts; after the last one the marketplace gives up."""

_LONGEST_WAIT = 30.0
_PASSING = frozenset({408, 425, 429})


class Poster:
    """Posts webhooks."""

    def __init__(self, base_url: str, *, client: Sender, clock: Clock) -> None:
        """``base_url``: this server, as it is reached from itself."""
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._clock = clock

    async def post(
        self,
        account: Account,
        webhook_id: str,
        kind: str,
        data: dict[str, object],
        *,
        happened_ms: int,
        on_push: Callable[[Push], None] = lambda _: None,
    ) -> bool:
        """Post one event until it is acked, refused or given up; return whether it was acked.

        ``happened_ms`` (milliseconds UTC) stands in the event, so that posting it again gives the same bytes.
        ``on_push`` hears of every attempt.
        """
        body = orjson.dumps({"type": kind, "timestamp": rfc3339(happened_ms), "data": data})
        for wait in (*WAITS_SECONDS, None):
            push, retry_after = await self._attempt(account, webhook_id, body)
            on_push(push)
            if push.is_taken:
                return True
            is_passing = push.status is None or push.status >= 500 or push.status in _PASSING
            if wait is None or not is_passing:
                break
            await self._clock.sleep(max(wait, retry_after))
        return False

    async def _attempt(self, account: Account, webhook_id: str, body: bytes) -> tuple[Push, float]:
        at_ms, started = self._clock.now_ms(), self._clock.monotonic()
        request = self._request(account, webhook_id, body, at_ms)
        status, error, retry_after = None, None, 0.0
        try:
            response = await self._client.send(request, timeout=TIMEOUT_SECONDS)
            status, retry_after = response.status, _retry_after(response)
        except (PeerUnavailableError, OutcomeUnknownError) as failure:
            error = failure.code
        duration_ms = round((self._clock.monotonic() - started) * 1000)
        return Push(at_ms=at_ms, duration_ms=duration_ms, status=status, error=error), retry_after

    def _request(self, account: Account, webhook_id: str, body: bytes, at_ms: int) -> WireRequest:
        seconds = at_ms // 1000
        return WireRequest(
            method="POST",
            url=f"{self._base_url}/webhooks/{account.channel}/{account.id}",
            headers={
                "content-type": "application/json",
                "webhook-id": webhook_id,
                "webhook-timestamp": str(seconds),
                "webhook-signature": signing.sign(account.secrets, webhook_id, seconds, body),
            },
            body=body,
        )


def _retry_after(response: WireResponse) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), _LONGEST_WAIT) if value.isascii() and value.isdigit() else 0.0
