"""The durable inbox: a webhook is verified, parsed, stored and only then acked.

Duplicates are absorbed by the unique index on (account, dedupe key), never by looking first. What is signed but odd is
stored as rejected or ignored with its reason, and acked, because a platform must not repeat it for ever.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection, bindparam, select, update

from app.channels.base import Ack, ChannelAdapter
from app.core.clock import Clock
from app.core.errors import NotFoundError
from app.core.ids import Ids
from app.core.tracing import TRACEPARENT, Trail, trace_id_of
from app.core.values import value
from app.domain.delivery import Account, RawDelivery
from app.domain.matching import Understanding
from app.domain.messages import EventKind, InboundEvent
from app.pipeline.partitions import partition_of
from app.pipeline.records import ConversationRecord, record_from_row
from app.storage.database import Database, upsert
from app.storage.hot import HotInsert, HotLookup, HotQuery
from app.storage.leases import cut_off
from app.storage.tables import conversations, inbox

__all__ = ["Inbox", "InboxItem", "InboxResult", "StoreInbox", "buyer_lane_key"]

trail = Trail(__name__)

_KEPT_HEADERS = ("webhook-id", "webhook-timestamp", "svix-id", "svix-timestamp", "content-type", TRACEPARENT)
"""What is kept of the headers to parse a stored body again, and to trace it. Signatures are not kept."""

_NOBODY = bytes(32)

_SILENT_STATES = {EventKind.REJECTED: "rejected", EventKind.IGNORED: "ignored"}


class Directory(Protocol):
    """Where accounts and adapters are found."""

    def account(self, account_id: str) -> Account | None: ...

    def adapter(self, account: Account) -> ChannelAdapter: ...


@dataclass(slots=True, kw_only=True)
class InboxItem:
    """One event on its way through inbox and lane."""

    id: int
    account_id: str
    shop_id: str
    channel: str
    event: InboundEvent
    lane_key: str
    partition: int
    received_at_ms: int
    headers: Mapping[str, str]
    body: bytes
    tries: int = 0
    load_conversation: bool = False
    committed_at_ms: int | None = None
    understood: tuple[int, Understanding] | None = None
    """What the message says, with the knowledge version it was understood by, once a lane has looked at it."""

    @property
    def trace_id(self) -> str:
        """The id that everything logged about this event has."""
        return trace_id_of(self.headers, self.id)


@value(frozen=True, slots=True)
class InboxResult:
    """What storing an event came to: whether it is new, and its conversation where that was asked for.

    ``earlier``: open rows of the same lane that other processes stored before it, as seen at ``looked_at`` (monotonic).
    """

    is_new: bool
    record: ConversationRecord | None = None
    earlier: Sequence[Mapping[str, Any]] = ()
    looked_at: float = 0.0


def buyer_lane_key(buyer_external_id: str) -> str:
    """Return the lane of events that name a buyer who has no conversation yet."""
    return f"buyer:{buyer_external_id}"


_INSERT_INBOX = HotInsert(
    inbox,
    (
        "id", "account_id", "channel", "kind", "dedupe_key", "lane_key", "partition", "headers", "body",
        "received_at_ms", "state", "reason",
    ),
    lambda insert: insert.on_conflict_do_nothing(),
)  # fmt: skip

_STORED = HotQuery(select(inbox.c.id).where(inbox.c.id.in_(bindparam("ids", expanding=True))), "ids")
_CONVERSATIONS = HotLookup(conversations, ("account_id", "external_id"))


class StoreInbox:
    """The bulk operation that stores events, absorbing duplicates."""

    rank = 10

    def apply(self, connection: Connection, items: Sequence[InboxItem]) -> Sequence[InboxResult | Exception]:
        """Insert what is new; count what is not."""
        inserted = _INSERT_INBOX.run(connection, [_row(item) for item in items])
        stored = {item.id for item in items}
        if inserted != len(items):
            # Some are there already: look which are ours.
            stored = {row[0] for row in _STORED.rows(connection, stored)}
            for item in items:
                if item.id not in stored:
                    _count_duplicate(connection, item)
        records = _load_conversations(connection, [item for item in items if item.load_conversation])
        return [
            InboxResult(item.id in stored, records.get((item.account_id, item.lane_key))) for item in items
        ]


def _row(item: InboxItem) -> dict[str, Any]:
    event = item.event
    return {
        "id": item.id,
        "account_id": item.account_id,
        "channel": item.channel,
        "kind": event.kind.value,
        "dedupe_key": event.dedupe_key,
        "lane_key": item.lane_key,
        "partition": item.partition,
        "headers": orjson.dumps(item.headers).decode(),
        "body": item.body,
        "received_at_ms": item.received_at_ms,
        "state": _SILENT_STATES.get(event.kind, "open"),
        "reason": event.reason,
    }


def _count_duplicate(connection: Connection, item: InboxItem) -> None:
    same = (inbox.c.account_id == item.account_id) & (inbox.c.dedupe_key == item.event.dedupe_key)
    first = connection.execute(select(inbox.c.id, inbox.c.body).where(same)).one()
    connection.execute(update(inbox).where(inbox.c.id == first.id).values(duplicates=inbox.c.duplicates + 1))
    if bytes(first.body) != item.body:
        # The first one wins; the other body is kept where admins look for odd events.
        row = _row(item)
        row.update(state="ignored", reason=f"id_reused:{first.id}", dedupe_key=f"id_reused:{item.id}")
        connection.execute(upsert(connection, inbox).on_conflict_do_nothing(), [row])


def _load_conversations(
    connection: Connection, items: Sequence[InboxItem]
) -> dict[tuple[str, str], ConversationRecord]:
    if not items:
        return {}
    keys = sorted({(item.account_id, item.lane_key) for item in items})
    rows = _CONVERSATIONS.find(
        connection, [{"account_id": account_id, "external_id": lane} for account_id, lane in keys]
    )
    return {(row["account_id"], row["external_id"]): record_from_row(row) for row in rows}


class Inbox:
    """Takes webhooks."""

    def __init__(
        self,
        *,
        database: Database,
        directory: Directory,
        clock: Clock,
        ids: Ids,
        is_cached: Callable[[str, str], bool],
        on_stored: Callable[[InboxItem, InboxResult], None],
        store: StoreInbox | None = None,
        is_member: Callable[[], bool] | None = None,
    ) -> None:
        """``is_cached(account_id, lane_key)``: the lane has the conversation at hand.

        ``on_stored`` is called once for every new event after its commit, in commit order. ``store`` stores the events,
        ``is_member`` says whether this process may ack, both where there can be other processes.
        """
        self._database = database
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._is_cached = is_cached
        self._on_stored = on_stored
        self._store = store or StoreInbox()
        self._is_member = is_member

    async def accept(
        self, channel: str, account_id: str, delivery: RawDelivery
    ) -> tuple[ChannelAdapter, int]:
        """Take one webhook; return once it is durable, with the adapter whose ack to send and how many were new.

        Raises:
            NotFoundError: no such account on this channel.
            SignatureError: it isn't from the marketplace; nothing was stored.
            OverloadedError, UnavailableError: it could not be stored; nothing was acked.
        """
        account = self._account(channel, account_id, delivery)
        adapter = self._directory.adapter(account)
        now_ms = self._clock.now_ms()
        adapter.verify(delivery, account, now_ms=now_ms)
        self._make_sure()
        events = adapter.parse(delivery)
        if len(events) == 1:
            item = await self._item(account, events[0], delivery, now_ms)
            result = await self._offer(item)
            self._make_sure()
            return adapter, int(result.is_new)
        waiting = [self._offer(await self._item(account, event, delivery, now_ms)) for event in events]
        results = await asyncio.gather(*waiting)
        self._make_sure()
        return adapter, sum(result.is_new for result in results)

    def _make_sure(self) -> None:
        """Refuse to ack what no other process need look for: they don't, once they took this one for dead.

        What is stored by then is absorbed when it is posted again, and worked off meanwhile.
        """
        if self._is_member is not None and not self._is_member():
            raise cut_off()

    def handshake(self, channel: str, account_id: str, delivery: RawDelivery) -> Ack | None:
        """Return the answer by which a marketplace checks this endpoint; None when it never does.

        Raises:
            NotFoundError, SignatureError: as ``accept``.
        """
        account = self._account(channel, account_id, delivery)
        return self._directory.adapter(account).handshake(delivery, account)

    def _account(self, channel: str, account_id: str, delivery: RawDelivery) -> Account:
        account = self._directory.account(account_id)
        if account is None or account.channel != channel:
            # As much work as a wrong signature costs, so that the time taken tells nobody which accounts exist.
            hmac.digest(_NOBODY, delivery.body, "sha256")
            raise NotFoundError("there is no such account on this channel", code="channel_unknown")
        return account

    def _offer(self, item: InboxItem) -> asyncio.Future[InboxResult]:
        future = self._database.writer.offer(self._store, item, len(item.body) + 256)
        # A callback, not code after the await: the lane must hear of it even when the request was cancelled.
        future.add_done_callback(lambda done: self._stored(item, done))
        return future

    def _stored(self, item: InboxItem, future: asyncio.Future[InboxResult]) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        result = future.result()
        if trail.is_followed:
            event = item.event
            trail.note(
                "webhook.stored" if result.is_new else "webhook.repeated",
                (item.trace_id,),
                inbox_id=item.id if result.is_new else None,
                account_id=item.account_id,
                kind=event.kind.value,
                dedupe_key=event.dedupe_key,
                reason=event.reason,
            )
        if result.is_new and item.event.kind not in _SILENT_STATES:
            item.committed_at_ms = self._clock.now_ms()
            self._on_stored(item, result)

    async def _item(
        self, account: Account, event: InboundEvent, delivery: RawDelivery, now_ms: int
    ) -> InboxItem:
        lane_key = event.conversation_id or ""
        if not lane_key and event.buyer is not None:
            lane_key = await self._lane_of_buyer(account.id, event.buyer.id)
        headers = delivery.headers
        return InboxItem(
            id=self._ids.next(),
            account_id=account.id,
            shop_id=account.shop_id,
            channel=account.channel,
            event=event,
            lane_key=lane_key,
            partition=partition_of(account.id, lane_key),
            received_at_ms=now_ms,
            headers={name: headers[name] for name in _KEPT_HEADERS if name in headers},
            body=delivery.body,
            load_conversation=event.kind is EventKind.MESSAGE and not self._is_cached(account.id, lane_key),
        )

    async def _lane_of_buyer(self, account_id: str, buyer_id: str) -> str:
        def latest(connection: Connection) -> str | None:
            return connection.execute(
                select(conversations.c.external_id)
                .where(
                    conversations.c.account_id == account_id, conversations.c.buyer_external_id == buyer_id
                )
                .order_by(conversations.c.last_message_at_ms.desc())
                .limit(1)
            ).scalar()

        return await self._database.read(latest) or buyer_lane_key(buyer_id)
