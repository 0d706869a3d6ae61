"""What a marketplace reports beside messages: echoes, order and refund updates, reviews, closed conversations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson
from sqlalchemy import Connection, select, update

from app.core.clock import Clock
from app.core.ids import Ids
from app.delivery.outbox import drop_supersedable
from app.desk.escalations import end_escalations
from app.desk.events import append_events, conversation_event, message_created_event
from app.desk.wire import dumps, mask_order
from app.desk.work import Work
from app.domain.conversations import ConversationState, Priority
from app.domain.messages import Author, Content, EventKind
from app.domain.turns import Escalation
from app.pipeline.commit import InboxDone
from app.pipeline.inbox import InboxItem
from app.pipeline.records import ConversationRecord
from app.pipeline.turn_writer import TurnWriter
from app.pipeline.writing import conversation_row, outbound_message
from app.storage.database import Database, upsert
from app.storage.tables import inbox, messages, silent_orders

__all__ = ["Escalate", "OrderEvents", "PlatformEvents"]

ECHO_WINDOW_MS = 24 * 3600 * 1000
"""How long after sending an echo may come and still be matched by its text."""

BAD_RATING = 3
"""Ratings up to this one are bad reviews. Source: the knowledge outline, the case ``negative_review``."""

Escalate = Callable[[ConversationRecord, Escalation, str], Awaitable[ConversationRecord]]


class OrderEvents(Protocol):
    """Keeps order context fresh."""

    async def apply_event(self, account_id: str, kind: EventKind, payload: Mapping[str, Any]) -> None: ...


class PlatformEvents:
    """Works off every event that isn't a buyer's message."""

    def __init__(
        self, *, database: Database, writer: TurnWriter, orders: OrderEvents, clock: Clock, ids: Ids
    ) -> None:
        self._database = database
        self._writer = writer
        self._orders = orders
        self._clock = clock
        self._ids = ids

    async def process(
        self, record: ConversationRecord | None, item: InboxItem, *, escalate: Escalate
    ) -> ConversationRecord | None:
        """Work off one event; return its conversation afterwards.

        Raises:
            StaleTurnError, FencedError, UnavailableError: nothing of it was written.
        """
        match item.event.kind:
            case EventKind.ECHO if record is not None:
                return await self._echo(record, item)
            case EventKind.CLOSED if record is not None:
                return await self._closed(record, item)
            case EventKind.ORDER | EventKind.REFUND:
                await self._order(record, item)
                return record
            case EventKind.REVIEW if record is not None:
                return await self._review(record, item, escalate)
            case _:
                await self.finish(item, "ignored", "no_conversation")
                return record

    async def finish(self, item: InboxItem, state: str, reason: str | None = None) -> None:
        """Settle an inbox row that changes no conversation."""
        now_ms = self._clock.now_ms()
        await self._database.write(
            lambda connection: connection.execute(
                update(inbox)
                .where(inbox.c.id == item.id)
                .values(state=state, reason=reason, done_at_ms=now_ms)
            )
        )

    async def _order(self, record: ConversationRecord | None, item: InboxItem) -> None:
        event = item.event
        await self._orders.apply_event(item.account_id, event.kind, event.payload)
        order = event.payload.get("order")
        if (
            record is None
            and event.kind is EventKind.ORDER
            and isinstance(order, Mapping)
            and event.buyer is not None
        ):
            await self._keep_silent_order(item, dict(order), event.buyer.id)  # pyright: ignore[reportUnknownArgumentType]
        await self.finish(item, "done")

    async def _keep_silent_order(self, item: InboxItem, order: dict[str, Any], buyer_id: str) -> None:
        document = dumps(mask_order(order))
        now_ms = self._clock.now_ms()

        def keep(connection: Connection) -> None:
            statement = upsert(connection, silent_orders).values(
                account_id=item.account_id,
                order_id=str(order.get("order_id")),
                buyer_external_id=buyer_id,
                document=document,
                updated_at_ms=now_ms,
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["account_id", "order_id"],
                    set_={"document": statement.excluded.document, "updated_at_ms": now_ms},
                )
            )

        await self._database.write(keep)

    async def _review(
        self, record: ConversationRecord, item: InboxItem, escalate: Escalate
    ) -> ConversationRecord:
        rating = item.event.payload.get("rating")
        is_bad = isinstance(rating, (int, float)) and rating <= BAD_RATING
        if is_bad and record.conversation.state is ConversationState.BOT:
            escalation = Escalation(
                group="aftersale", rule="E16", reason="negative_review", priority=Priority.HIGH
            )
            record = await escalate(record, escalation, "E16")
        await self.finish(item, "done")
        return record

    async def _closed(self, record: ConversationRecord, item: InboxItem) -> ConversationRecord:
        conversation = record.conversation
        if conversation.state is ConversationState.CLOSED:
            await self.finish(item, "done")
            return record
        after = replace(
            record,
            conversation=replace(
                conversation,
                state=ConversationState.CLOSED,
                stage="closed",
                version=conversation.version + 1,
                agent_id=None,
            ),
            waiting_since_ms=None,
        )
        commit = self._writer.new_commit(record, self._clock.now_ms())
        commit.inbox_done.append(InboxDone(item.id, "done", None, None))
        self._writer.set_conversation(commit, after)
        shown = conversation_row(after, commit.conversation)
        commit.events.append(conversation_event(shown, "conversation.closed", now_ms=commit.now_ms))
        commit.also.append(
            lambda connection: self._end_escalations(connection, commit.conversation_id, commit.now_ms)
        )
        return await self._writer.commit(commit, after)

    async def _echo(self, record: ConversationRecord, item: InboxItem) -> ConversationRecord:
        ours = await self._database.read(lambda connection: _find_ours(connection, record, item))
        if ours is not None:
            await self._confirm(item, ours)
            return record
        return await self._taken_over(record, item)

    async def _confirm(self, item: InboxItem, message_id: int) -> None:
        now_ms = self._clock.now_ms()

        def confirm(connection: Connection) -> None:
            connection.execute(
                update(messages)
                .where(messages.c.id == message_id)
                .values(status="confirmed", external_id=item.event.message_id)
            )
            connection.execute(
                update(inbox)
                .where(inbox.c.id == item.id)
                .values(state="done", message_id=message_id, done_at_ms=now_ms)
            )

        await self._database.write(confirm)

    async def _taken_over(self, record: ConversationRecord, item: InboxItem) -> ConversationRecord:
        """A seller answered in the marketplace's own app: a human has the conversation, and the bot is silent."""
        conversation = record.conversation
        now_ms = self._clock.now_ms()
        changes: dict[str, Any] = {"last_message_at_ms": item.received_at_ms}
        if conversation.state is not ConversationState.HUMAN:
            changes |= {
                "state": ConversationState.HUMAN,
                "agent_id": None,
                "version": conversation.version + 1,
            }
        after = replace(record, conversation=replace(conversation, **changes), waiting_since_ms=None)
        commit = self._writer.new_commit(record, now_ms)
        row = outbound_message(
            self._ids,
            after,
            author=Author.AGENT,
            content=item.event.content or Content(),
            now_ms=item.received_at_ms,
            status="confirmed",
            external_id=item.event.message_id,
            sent_at_ms=item.event.sent_at_ms,
        )
        commit.messages.append(row)
        commit.inbox_done.append(InboxDone(item.id, "done", None, row["id"]))
        self._writer.set_conversation(commit, after)
        shown = conversation_row(after, commit.conversation)
        commit.events.append(message_created_event(row, shown, now_ms=now_ms))
        commit.events.append(conversation_event(shown, now_ms=now_ms))

        def also(connection: Connection) -> None:
            self._end_escalations(connection, conversation.id, now_ms)
            drop_supersedable(connection, conversation.id, now_ms=now_ms)

        if conversation.state is not ConversationState.HUMAN:
            commit.also.append(also)
        return await self._writer.commit(commit, after)

    def _end_escalations(self, connection: Connection, conversation_id: int, now_ms: int) -> None:
        work = Work(connection, now_ms=now_ms, ids=self._ids)
        end_escalations(work, conversation_id, withdrawn=True)
        append_events(connection, work.events)


def _find_ours(connection: Connection, record: ConversationRecord, item: InboxItem) -> int | None:
    """Return the id of the message of ours that an echo repeats: by its id, else by its words."""
    name = item.event.message_id
    sent = messages.c.conversation_id == record.conversation.id
    sent &= messages.c.direction == "out"
    if name is not None:
        same = messages.c.external_id == name
        if name.isascii() and name.isdigit() and len(name) < 19:
            same |= messages.c.id == int(name)
        found = connection.execute(select(messages.c.id).where(sent, same)).scalars().first()
        if found is not None:
            return found
    text = item.event.content.text if item.event.content is not None else ""
    rows = connection.execute(
        select(messages.c.id, messages.c.content)
        .where(sent, messages.c.status.in_(("queued", "sent", "unconfirmed")))
        .where(messages.c.created_at_ms > item.received_at_ms - ECHO_WINDOW_MS)
        .order_by(messages.c.id)
    )
    for row in rows:
        if text and Content.from_wire(orjson.loads(row.content)).text == text:
            return row.id
    return None
