"""What buyers, bots and agents say, and the events a channel's wire format is parsed into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from app.core.values import value

__all__ = ["Author", "BuyerRef", "Content", "ContentType", "Direction", "EventKind", "InboundEvent"]


class ContentType(StrEnum):
    """Kinds of message content. An unknown kind on the wire becomes ``OTHER`` with the raw value kept."""

    TEXT = "text"
    IMAGE = "image"
    VOICE = "voice"
    VIDEO = "video"
    ORDER_CARD = "order_card"
    PRODUCT_CARD = "product_card"
    OTHER = "other"


class Direction(StrEnum):
    """Whether a message came in, went out, or is a note that never leaves."""

    IN = "in"
    OUT = "out"
    NOTE = "note"


class Author(StrEnum):
    """Who wrote a message."""

    BUYER = "buyer"
    BOT = "bot"
    AGENT = "agent"
    SYSTEM = "system"


@value(frozen=True, slots=True, kw_only=True)
class Content:
    """What one message carries; only the fields of its type are set."""

    type: ContentType = ContentType.TEXT
    text: str = ""
    url: str | None = None
    seconds: int | None = None
    order_id: str | None = None
    product_id: str | None = None
    raw: Any = None

    def to_wire(self) -> dict[str, Any]:
        """Return the contract's JSON shape: ``type`` and the fields that are set."""
        if self.type is ContentType.TEXT:
            return {"type": "text", "text": self.text}
        wire: dict[str, Any] = {"type": self.type.value}
        if self.text:
            wire["text"] = self.text
        for name in ("url", "seconds", "order_id", "product_id", "raw"):
            value = getattr(self, name)
            if value is not None:
                wire[name] = value
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Content:
        """Read the shape that ``to_wire`` writes. Raises ValueError for a type that is none of ours."""
        return cls(
            type=ContentType(wire["type"]),
            text=wire.get("text", ""),
            url=wire.get("url"),
            seconds=wire.get("seconds"),
            order_id=wire.get("order_id"),
            product_id=wire.get("product_id"),
            raw=wire.get("raw"),
        )


@value(frozen=True, slots=True, kw_only=True)
class BuyerRef:
    """The buyer as the platform names them; nickname and tier may be unknown."""

    id: str
    nickname: str | None = None
    tier: str | None = None


class EventKind(StrEnum):
    """What a webhook turned out to be. ``REJECTED`` and ``IGNORED`` are stored and acked, and shown to admins."""

    MESSAGE = "message"
    ECHO = "echo"
    ORDER = "order"
    REFUND = "refund"
    REVIEW = "review"
    CLOSED = "closed"
    REJECTED = "rejected"
    IGNORED = "ignored"


@value(frozen=True, slots=True, kw_only=True)
class InboundEvent:
    """One event of a marketplace in Huoji's own shape.

    ``dedupe_key`` identifies it within its account: the platform's message id for messages, else the webhook's id.
    ``conversation_id`` is the platform's; None when the event names only a buyer.
    """

    kind: EventKind
    dedupe_key: str
    conversation_id: str | None = None
    buyer: BuyerRef | None = None
    message_id: str | None = None
    content: Content | None = None
    order_id: str | None = None
    product_id: str | None = None
    sent_at_ms: int | None = None
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str | None = None
