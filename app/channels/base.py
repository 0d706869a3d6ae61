"""What a marketplace's adapter has to offer: pure translation between its wire format and the domain's types.

No method here does I/O, reads a clock or keeps anything between calls; ``app/channels/http.py`` sends what
``build_request`` and its siblings return. So every protocol is tested by recorded bytes, without a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.channels.addresses import PUBLIC_ONLY, AddressPolicy
from app.core.errors import FieldProblem
from app.domain.delivery import Account, OutboundMessage, RawDelivery, Receipt, WireRequest, WireResponse
from app.domain.messages import ContentType, InboundEvent

__all__ = [
    "Ack",
    "Capabilities",
    "ChannelAdapter",
    "ChannelFactory",
    "Limits",
    "SettingField",
    "SettingValues",
]

SettingValues = Mapping[str, str | Sequence[str]]
"""An account's settings as typed: a text, or several for a setting that repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a marketplace allows for chat messages; None: no limit known."""

    text_characters: int | None = None
    text_bytes: int | None = None
    window_seconds: int | None = None
    """How long after the buyer's last message the shop may write."""
    window_messages: int | None = None
    """How many messages it may write within that window."""
    messages_per_second: float | None = None
    """For one account."""
    ack_seconds: float = 5.0
    """When the marketplace gives up waiting for the ack of a webhook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a channel can do, read from its ``channel.toml`` without importing its code.

    ``chat_in``, ``chat_out``, ``events`` and ``orders`` name the way (``webhook``, ``push``, ``pull``, ``poll``,
    ``api``, ``relay``), None where there is none. ``tier``: ``bronze``, ``silver`` or ``gold``.
    """

    channel: str
    title: str
    chat_in: str | None = None
    chat_out: str | None = None
    events: str | None = None
    orders: str | None = None
    tier: str = "bronze"
    content: frozenset[ContentType] = frozenset({ContentType.TEXT})
    """What can be sent to a buyer."""
    idempotent_send: bool = False
    """Whether the marketplace recognises a message sent twice under one key, so that an unsure send may be tried
    again without a person deciding."""
    limits: Limits = field(default_factory=Limits)

    def to_wire(self) -> dict[str, Any]:
        """Return one item of ``huoji channel list --json``."""
        return {
            "channel": self.channel,
            "chat_in": self.chat_in,
            "chat_out": self.chat_out,
            "events": self.events,
            "orders": self.orders,
            "tier": self.tier,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The answer that tells a marketplace its event is safe."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingField:
    """One setting of an account: its name, what it is for (Chinese, English), whether it is sealed when stored and
    how often it may be given."""

    name: str
    title: str
    title_en: str
    is_secret: bool = False
    most: int = 1


class ChannelAdapter(Protocol):
    """One marketplace's wire format. Every method is pure."""

    @property
    def capabilities(self) -> Capabilities:
        """What this channel can do."""
        ...

    @property
    def settings(self) -> Sequence[SettingField]:
        """The settings its accounts have."""
        ...

    def check_settings(
        self, settings: SettingValues, *, policy: AddressPolicy = PUBLIC_ONLY
    ) -> list[FieldProblem]:
        """Return what is wrong with an account's settings, all of it at once; ``policy`` judges its addresses."""
        ...

    def open_secrets(self, secrets: Sequence[str]) -> tuple[bytes, ...]:
        """Return the keys of checked secrets, in their order. Raises ValueError for one that was never valid."""
        ...

    def verify(self, delivery: RawDelivery, account: Account, *, now_ms: int) -> None:
        """Check over the raw bytes that a webhook comes from the account's marketplace, lately.

        Raises:
            SignatureError: it doesn't, or can't be told; the code says why.
        """
        ...

    def parse(self, delivery: RawDelivery) -> tuple[InboundEvent, ...]:
        """Return the events of a verified webhook, at least one.

        Never raises: what can't be understood is an event of kind REJECTED or IGNORED with a ``reason``. The same
        bytes give the same events, now and when they are read again from the inbox.
        """
        ...

    def ack(self) -> Ack:
        """Return the answer to a webhook whose events are stored."""
        ...

    def handshake(self, delivery: RawDelivery, account: Account) -> Ack | None:
        """Return the answer to a GET by which the marketplace checks the endpoint; None where it never does.

        Raises:
            SignatureError: it is not from the marketplace.
        """
        ...

    def build_request(self, message: OutboundMessage, account: Account, *, now_ms: int) -> WireRequest:
        """Return the request that sends a message. Attempts of one message differ in time and signature only.

        Raises:
            ChannelError: the account lacks what sending needs, code ``callback_missing`` or the like.
        """
        ...

    def read_response(self, response: WireResponse, *, now_ms: int) -> Receipt:
        """Return what the answer to ``build_request`` means. Never raises."""
        ...

    def order_request(self, account: Account, order_id: str, buyer_id: str) -> WireRequest | None:
        """Return the request for one order of a buyer; None when the account has no order service."""
        ...

    def orders_request(self, account: Account, buyer_id: str) -> WireRequest | None:
        """Return the request for a buyer's latest orders; None when the account has no order service."""
        ...

    def read_order(self, response: WireResponse) -> Mapping[str, Any] | None:
        """Return the order document of an answer, None when the buyer has no such order.

        Raises:
            ChannelError: the order service failed or answered something else.
        """
        ...

    def read_orders(self, response: WireResponse) -> tuple[Mapping[str, Any], ...]:
        """Return the order documents of an answer, newest first.

        Raises:
            ChannelError: the order service failed or answered something else.
        """
        ...


ChannelFactory = Callable[[Capabilities], ChannelAdapter]
"""What a channel's package exports as ``build``."""
