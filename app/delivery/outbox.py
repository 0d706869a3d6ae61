"""Outbox rows: written in the transaction that decides a message, read back when a process takes over its partition.

A row's id is its idempotency key; a conversation's rows leave in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, insert, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, SMALLINT

from app.core.ids import Ids
from app.domain.delivery import OutboundMessage
from app.domain.messages import Author, Content
from app.storage.tables import conversations, messages, outbox

__all__ = [
    "OutboxItem",
    "drop_supersedable",
    "enqueue_outbound",
    "items_by_id",
    "open_ids",
    "outbox_row",
    "replay",
]

BOT_DEADLINE_MS = 24 * 3600 * 1000
AGENT_DEADLINE_MS = 72 * 3600 * 1000
"""After this long a message no longer helps; it becomes a dead letter instead of arriving out of the blue. The longer
figure is about the span of the Standard Webhooks retry schedule."""


@dataclass(slots=True, kw_only=True)
class OutboxItem:
    """One message on its way, as the sender holds it. ``attempts`` and ``next_attempt_at_ms`` move with each try."""

    id: int
    conversation_id: int
    account_id: str
    partition: int
    message_id: int
    author: Author
    supersedable: bool
    message: OutboundMessage
    deadline_ms: int
    created_at_ms: int
    attempts: int = 0
    next_attempt_at_ms: int = 0
    received_at_ms: int | None = None
    """When the message that this answers came in, for the reply-time metric; unknown after a restart."""
    trace_ids: tuple[str, ...] = ()
    """Of the events that it answers; none for what an agent sends."""

    def row(self) -> dict[str, Any]:
        """Return the row for table ``outbox``."""
        return outbox_row(self)


def outbox_row(item: OutboxItem) -> dict[str, Any]:
    """Return an item as a row of table ``outbox``."""
    message = item.message
    payload: dict[str, Any] = {
        "content": message.content.to_wire(),
        "in_reply_to": message.in_reply_to,
        "answers": message.answers,
    }
    if item.trace_ids:
        payload["trace_ids"] = item.trace_ids
    return {
        "id": item.id,
        "conversation_id": item.conversation_id,
        "account_id": item.account_id,
        "partition": item.partition,
        "message_id": item.message_id,
        "author": str(item.author),
        "supersedable": item.supersedable,
        "payload": orjson.dumps(payload).decode(),
        "state": "open",
        "next_attempt_at_ms": item.next_attempt_at_ms,
        "deadline_ms": item.deadline_ms,
        "created_at_ms": item.created_at_ms,
    }


def new_item(
    *,
    ids: Ids,
    conversation_id: int,
    conversation_external_id: str,
    account_id: str,
    partition: int,
    message_id: int,
    author: Author,
    content: Content,
    now_ms: int,
    in_reply_to: str | None,
    answers: tuple[str, ...] | None,
    supersedable: bool,
    received_at_ms: int | None = None,
    trace_ids: tuple[str, ...] = (),
) -> OutboxItem:
    """Make an item that is due at once."""
    item_id = ids.next()
    return OutboxItem(
        id=item_id,
        conversation_id=conversation_id,
        account_id=account_id,
        partition=partition,
        message_id=message_id,
        author=author,
        supersedable=supersedable,
        message=OutboundMessage(
            key=f"msg_{item_id}",
            message_id=str(message_id),
            conversation_external_id=conversation_external_id,
            author=author,
            content=content,
            created_at_ms=now_ms,
            in_reply_to=in_reply_to,
            answers=answers,
        ),
        deadline_ms=now_ms + (AGENT_DEADLINE_MS if author is Author.AGENT else BOT_DEADLINE_MS),
        created_at_ms=now_ms,
        next_attempt_at_ms=now_ms,
        received_at_ms=received_at_ms,
        trace_ids=trace_ids,
    )


def enqueue_outbound(
    connection: Connection,
    *,
    ids: Ids,
    conversation: Mapping[str, Any],
    message_id: int,
    author: Author,
    content: Content,
    now_ms: int,
    in_reply_to: str | None,
    answers: tuple[str, ...] | None,
    supersedable: bool,
) -> OutboxItem:
    """Store a message for sending, inside the caller's transaction; give the item to the sender after the commit.

    ``conversation`` is the row (``id``, ``external_id``, ``account_id``, ``partition``). ``supersedable``: dropped if a
    human takes the conversation before it has left.
    """
    item = new_item(
        ids=ids,
        conversation_id=conversation["id"],
        conversation_external_id=conversation["external_id"],
        account_id=conversation["account_id"],
        partition=conversation["partition"],
        message_id=message_id,
        author=author,
        content=content,
        now_ms=now_ms,
        in_reply_to=in_reply_to,
        answers=answers,
        supersedable=supersedable,
    )
    connection.execute(insert(outbox), item.row())
    return item


def drop_supersedable(connection: Connection, conversation_id: int, *, now_ms: int) -> int:
    """Drop what the bot still wanted to say in a conversation that a human takes; return how many messages."""
    rows = connection.execute(
        select(outbox.c.id, outbox.c.message_id).where(
            outbox.c.conversation_id == conversation_id, outbox.c.state == "open", outbox.c.supersedable
        )
    ).all()
    if rows:
        connection.execute(
            update(outbox)
            .where(outbox.c.id.in_([row.id for row in rows]))
            .values(state="dropped", error="superseded", done_at_ms=now_ms)
        )
        connection.execute(
            update(messages)
            .where(messages.c.id.in_([row.message_id for row in rows]))
            .values(status="dropped", error="superseded")
        )
    return len(rows)


_OPEN_IDS = (
    select(outbox.c.id)
    .where(outbox.c.state == "open", outbox.c.partition.in_(bindparam("partitions", expanding=True)))
    .order_by(outbox.c.id)
)
# One row with an array: a tenth of what as many rows would cost. Rows without a number are from before there were any.
_OPEN_IDS_ARRAY = text(
    "SELECT array_agg(id ORDER BY seq NULLS FIRST, id) FROM outbox"
    " WHERE state = 'open' AND partition = ANY(:partitions)"
).bindparams(bindparam("partitions", type_=ARRAY(SMALLINT)))
_ITEMS = (
    select(outbox, conversations.c.external_id)
    .join(conversations, conversations.c.id == outbox.c.conversation_id)
    .where(outbox.c.state == "open")
)
_ITEMS_IN = _ITEMS.where(outbox.c.id.in_(bindparam("ids", expanding=True)))
_ITEMS_ANY = _ITEMS.where(outbox.c.id == bindparam("ids", type_=ARRAY(BIGINT)).any_())


def open_ids(connection: Connection, partitions: Sequence[int]) -> Sequence[int]:
    """Return the ids of every open row of some partitions, in the order of storing."""
    values = {"partitions": list(partitions)}
    if connection.dialect.name == "postgresql":
        return connection.execute(_OPEN_IDS_ARRAY, values).scalar() or []
    return connection.execute(_OPEN_IDS, values).scalars().all()


def items_by_id(connection: Connection, ids: Sequence[int]) -> list[OutboxItem]:
    """Read the rows that are still open, in the order given."""
    statement = _ITEMS_ANY if connection.dialect.name == "postgresql" else _ITEMS_IN
    rows = {row["id"]: row for row in connection.execute(statement, {"ids": list(ids)}).mappings()}
    return [_from_row(rows[one]) for one in ids if one in rows]


def _from_row(row: Mapping[Any, Any]) -> OutboxItem:
    payload = orjson.loads(row["payload"])
    author = Author(row["author"])
    answers = payload["answers"]
    return OutboxItem(
        id=row["id"],
        conversation_id=row["conversation_id"],
        account_id=row["account_id"],
        partition=row["partition"],
        message_id=row["message_id"],
        author=author,
        supersedable=bool(row["supersedable"]),
        message=OutboundMessage(
            key=f"msg_{row['id']}",
            message_id=str(row["message_id"]),
            conversation_external_id=row["external_id"],
            author=author,
            content=Content.from_wire(payload["content"]),
            created_at_ms=row["created_at_ms"],
            in_reply_to=payload["in_reply_to"],
            answers=None if answers is None else tuple(answers),
        ),
        deadline_ms=row["deadline_ms"],
        created_at_ms=row["created_at_ms"],
        attempts=row["attempts"],
        next_attempt_at_ms=row["next_attempt_at_ms"],
        # Rows from before there were any have none.
        trace_ids=tuple(payload.get("trace_ids", ())),
    )


def replay(connection: Connection, outbox_id: int, *, now_ms: int) -> bool:
    """Put a dead letter back on its way with a fresh deadline and its old key; False when there is none such."""
    changed = connection.execute(
        update(outbox)
        .where(outbox.c.id == outbox_id, outbox.c.state == "failed")
        .values(
            state="open",
            error=None,
            done_at_ms=None,
            next_attempt_at_ms=now_ms,
            deadline_ms=now_ms + AGENT_DEADLINE_MS,
        )
    ).rowcount
    if changed:
        connection.execute(
            update(messages)
            .where(
                messages.c.id == select(outbox.c.message_id).where(outbox.c.id == outbox_id).scalar_subquery()
            )
            .values(status="queued", error=None)
        )
    return bool(changed)
