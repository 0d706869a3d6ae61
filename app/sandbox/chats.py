"""What a visitor's page holds: chats with shops, their messages, the trouble they asked for, and the events to show."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.core.clock import rfc3339

__all__ = ["Chat", "ChatMessage", "EventLog", "Image", "PageSession", "Push", "Troubles"]

_KEPT_EVENTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One attempt of the marketplace to post a webhook: when, how long it waited, and what came back.

    ``status`` None: no answer; ``error`` says why.
    """

    at_ms: int
    duration_ms: int
    status: int | None
    error: str | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the server acked it."""
        return self.status is not None and 200 <= self.status < 300

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON shape."""
        return {
            "at_ms": self.at_ms,
            "duration_ms": self.duration_ms,
            "status": self.status,
            "error": self.error,
            "taken": self.is_taken,
        }


@dataclass(slots=True, kw_only=True)
class ChatMessage:
    """One line of a chat as the marketplace keeps it.

    ``state`` of a buyer's: held (kept back on purpose), sending, pushed or failed; of a shop's: received.
    ``after_ms``: how long after the last message it answers a reply arrived. ``busy``: it is still being posted.
    """

    id: str
    author: str
    content: Mapping[str, Any]
    at_ms: int
    state: str
    order_id: str | None = None
    product_id: str | None = None
    answers: tuple[str, ...] = ()
    after_ms: int | None = None
    webhook_id: str | None = None
    client_id: str | None = None
    """The page's own name for it: saying it twice says it once."""
    busy: bool = False
    pushes: list[Push] = field(default_factory=list[Push])

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON shape of the page's API."""
        return {
            "id": self.id,
            "client_id": self.client_id,
            "author": self.author,
            "content": dict(self.content),
            "at": rfc3339(self.at_ms),
            "at_ms": self.at_ms,
            "state": self.state,
            "order_id": self.order_id,
            "product_id": self.product_id,
            "answers": list(self.answers),
            "after_ms": self.after_ms,
        }


@dataclass(slots=True, kw_only=True)
class Chat:
    """The conversation of one buyer with one shop.

    ``held``: set to let go of the message that is kept back, None when none is. ``turn`` keeps posts in order.
    """

    id: str
    account_id: str
    buyer_key: str
    messages: list[ChatMessage] = field(default_factory=list[ChatMessage])
    held: asyncio.Event | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def find(self, message_id: str) -> ChatMessage | None:
        """Return a message by the platform's id."""
        return next((message for message in self.messages if message.id == message_id), None)

    def find_said(self, client_id: str) -> ChatMessage | None:
        """Return the message that the page named so."""
        return next((message for message in self.messages if message.client_id == client_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Troubles:
    """What the marketplace does wrong on purpose, so that one can watch it do no harm."""

    twice: bool = False
    """Every message is posted a second time."""
    swapped: bool = False
    """A message is kept back until the next one has been posted."""
    refuse_first: bool = False
    """A reply's first attempt is answered 503 with Retry-After."""
    slow: bool = False
    """Replies are acked after two seconds."""

    def to_wire(self) -> dict[str, bool]:
        """Return the JSON shape."""
        return {
            "twice": self.twice,
            "swapped": self.swapped,
            "refuse_first": self.refuse_first,
            "slow": self.slow,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture that a visitor sent."""

    media_type: str
    data: bytes


class EventLog:
    """What happened in one page session, for the page that listens. Numbers rise from 1; the last ones are kept."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, str, Mapping[str, Any]]] = deque(maxlen=_KEPT_EVENTS)
        self._changed = asyncio.Event()
        self._last = 0
        self.is_closed = False

    @property
    def last(self) -> int:
        """The number of the latest event."""
        return self._last

    def append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add an event and wake whoever waits."""
        self._last += 1
        self._events.append((self._last, kind, data))
        self._wake()

    def after(self, number: int) -> list[tuple[int, str, Mapping[str, Any]]]:
        """Return the events with greater numbers, oldest first."""
        return [event for event in self._events if event[0] > number]

    def changed(self) -> asyncio.Event:
        """Return what is set at the next change. Take it before looking with ``after``, so that none slips by."""
        return self._changed

    def close(self) -> None:
        """Tell every listener to go."""
        self.is_closed = True
        self._wake()

    def _wake(self) -> None:
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()


@dataclass(slots=True, kw_only=True)
class PageSession:
    """One visitor's own marketplace: nobody else sees its buyers, orders and chats."""

    id: str
    tag: str
    """A short part of the id that stands in the ids of buyers, chats and messages."""
    begun_ms: int
    troubles: Troubles = field(default_factory=Troubles)
    chats: dict[tuple[str, str], Chat] = field(default_factory=dict[tuple[str, str], Chat])
    refused: set[str] = field(default_factory=set[str])
    images: dict[str, Image] = field(default_factory=dict[str, Image])
    events: EventLog = field(default_factory=EventLog)
    counter: int = 0

    def next_number(self) -> int:
        """Return 1, 2, 3 …"""
        self.counter += 1
        return self.counter
