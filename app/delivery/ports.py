"""What the sender needs of the rest of the program, and what it tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection

from app.channels.base import ChannelAdapter
from app.delivery.marks import DeliveryMark
from app.delivery.outbox import OutboxItem
from app.domain.delivery import Account, WireRequest, WireResponse

__all__ = ["Client", "DeliveryHooks", "Directory", "Partitions"]


class Directory(Protocol):
    """Where accounts and adapters are found; pausing an account is written by its owner."""

    def account(self, account_id: str) -> Account | None: ...

    def adapter(self, account: Account) -> ChannelAdapter: ...

    async def pause(self, account_id: str, reason: str) -> None: ...


class Client(Protocol):
    """The thin HTTP client."""

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse: ...


class Partitions(Protocol):
    """Which partitions this process may send for."""

    @property
    def epochs(self) -> Mapping[int, int]: ...

    def holds(self, partition: int) -> bool: ...

    def fenced(self, partition: int) -> None: ...


class DeliveryHooks(Protocol):
    """What the sender asks of, and tells, the rest of the program."""

    async def is_superseded(self, item: OutboxItem) -> bool:
        """Whether the bot must hold its tongue: a human owns the conversation, or did since this was decided."""
        ...

    def delivery_event(
        self, item: OutboxItem, status: str, error: str | None, now_ms: int
    ) -> dict[str, Any] | None:
        """Return the console event to store with an outcome; None when nobody watches."""
        ...

    def append_events(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Store console events in a transaction of the sender's."""
        ...

    def on_marked(self, item: OutboxItem, mark: DeliveryMark) -> None:
        """Hear of every outcome once it is stored."""
        ...
