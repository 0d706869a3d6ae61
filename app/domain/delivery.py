"""What goes out to a marketplace, and what came of trying. Also one webhook request as it came in."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from app.core.values import value
from app.domain.messages import Author, Content

__all__ = ["Account", "OutboundMessage", "Outcome", "RawDelivery", "Receipt", "WireRequest", "WireResponse"]


@value(frozen=True, slots=True)
class RawDelivery:
    """One webhook request: header names in lower case, the body's exact bytes, and the query string."""

    headers: Mapping[str, str]
    body: bytes
    query: str = ""


@value(frozen=True, slots=True, kw_only=True)
class Account:
    """A shop's seat on one channel, its secrets opened. Never logged, never sent anywhere."""

    id: str
    channel: str
    shop_id: str
    secrets: tuple[bytes, ...]
    """Live signing keys, raw bytes: any verifies, all sign, the first is the current one."""
    settings: Mapping[str, str]
    """The other settings: callback_url, orders_url, orders_token, chat …"""
    is_paused: bool = False

    def __repr__(self) -> str:
        return f"Account({self.channel}/{self.id})"


@value(frozen=True, slots=True, kw_only=True)
class OutboundMessage:
    """One message to a buyer. ``key`` is the delivery's idempotency key, the same at every attempt."""

    key: str
    message_id: str
    conversation_external_id: str
    author: Author
    content: Content
    created_at_ms: int
    in_reply_to: str | None = None
    answers: tuple[str, ...] | None = None


@value(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """An HTTP request ready to leave: the body is exactly what was signed."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


@value(frozen=True, slots=True, kw_only=True)
class WireResponse:
    """An HTTP answer: header names in lower case; the body cut at the client's limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outcome(StrEnum):
    """What an attempt came to.

    DELIVERED done · RETRY try again later · FAILED this message will never be taken · PAUSE_ACCOUNT the marketplace
    refuses the account (its replies wait) · UNKNOWN it may or may not have been taken (cut after sending).
    """

    DELIVERED = "delivered"
    RETRY = "retry"
    FAILED = "failed"
    PAUSE_ACCOUNT = "pause_account"
    UNKNOWN = "unknown"


@value(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The outcome of one attempt, with what a person should know. ``retry_after`` in seconds."""

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    retry_after: float | None = None
    external_id: str | None = None
