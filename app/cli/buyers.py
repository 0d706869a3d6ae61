"""Simulated buyers: posts lines of text through the signed webhook of a running server.

A buyer writes the next line only when the one before is acked, as people do; different buyers write at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp
import orjson

from app.channels import signing
from app.core.clock import Clock, rfc3339
from app.core.errors import UnavailableError

__all__ = ["Posted", "Target", "post_lines"]

_WORKERS = 32
_TRIES = 8
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where messages are posted: the webhook's address and the account's signing keys."""

    webhook: str
    keys: tuple[bytes, ...]
    run: str
    """What the ids of this run begin with."""
    buyers: int

    def message_id(self, index: int) -> str:
        """Return the platform's id of a line, by its place from 0."""
        return f"{self.run}-m{index}"

    def conversation_id(self, index: int) -> str:
        """Return the platform's id of the conversation that a line belongs to."""
        return f"{self.run}-c{index % self.buyers}"


@dataclass(slots=True, kw_only=True)
class Posted:
    """What came of posting: the places of acked lines, how many were refused, and the first refusal's words."""

    acked: set[int] = field(default_factory=set[int])
    refused: int = 0
    first_refusal: str | None = None


async def post_lines(
    lines: Sequence[str],
    target: Target,
    *,
    clock: Clock,
    rate: float | None,
    on_progress: Callable[[Posted], None],
) -> Posted:
    """Post every line.

    Args:
        lines: the buyers' texts, in order; buyer i writes the lines i, i + buyers, …
        target: where to.
        clock: for signatures and pacing.
        rate: lines a second; None: as fast as they are acked.
        on_progress: called after each line.

    Raises:
        UnavailableError: nothing answers at the address.
    """
    posted = Posted()
    workers = min(_WORKERS, target.buyers)
    began = clock.monotonic()
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=_WORKERS)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def work(number: int) -> None:
            for index, line in enumerate(lines):
                if index % target.buyers % workers != number:
                    continue
                if rate:
                    await clock.sleep(max(0.0, began + index / rate - clock.monotonic()))
                refusal = await _post(session, target, index, line, clock)
                if refusal is None:
                    posted.acked.add(index)
                else:
                    posted.refused += 1
                    posted.first_refusal = posted.first_refusal or refusal
                on_progress(posted)

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(work(number))
        except* aiohttp.ClientError as errors:
            raise UnavailableError(
                f"{target.webhook} does not answer ({errors.exceptions[0]}); is the server running?"
            ) from None
    return posted


async def _post(
    session: aiohttp.ClientSession, target: Target, index: int, line: str, clock: Clock
) -> str | None:
    """Post one line; return None when it is acked, else why not."""
    message_id = target.message_id(index)
    conversation = target.conversation_id(index)
    now = rfc3339(clock.now_ms())
    body = orjson.dumps({
        "type": "message.created",
        "timestamp": now,
        "data": {
            "message_id": message_id,
            "conversation_id": conversation,
            "buyer": {"id": f"{conversation}-buyer"},
            "sent_at": now,
            "content": {"type": "text", "text": line},
        },
    })  # fmt: skip
    reason = ""
    for attempt in range(_TRIES):
        seconds = clock.now_ms() // 1000
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": signing.sign(target.keys, message_id, seconds, body),
        }
        try:
            async with session.post(
                target.webhook, data=body, headers=headers, allow_redirects=False
            ) as answer:
                text = (await answer.text())[:300]
                if answer.status < 300:
                    return None
                reason = f"{answer.status} {text}"
                if answer.status != 503:
                    return reason
                wait = answer.headers.get("retry-after", "1")
        except (aiohttp.ServerDisconnectedError, TimeoutError) as error:
            # The message may have been stored; its id makes the repeat harmless.
            reason, wait = type(error).__name__, "1"
        if attempt + 1 < _TRIES:
            await clock.sleep(float(wait) if wait.isdigit() else 1.0)
    return reason
