"""Adding a message to a conversation: its number, its row, its event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import insert, update

from app.desk.events import message_created_event
from app.desk.wire import dumps, message_json
from app.desk.work import Work
from app.domain.messages import Author, Content, Direction
from app.storage.tables import conversations, messages

__all__ = ["add_message"]


def add_message(
    work: Work,
    conversation: Mapping[Any, Any],
    *,
    direction: Direction,
    author: Author,
    content: Content,
    status: str,
    author_id: int | None = None,
    client_message_id: str | None = None,
    in_reply_to: int | None = None,
    **values: Any,
) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """Store a message and its event; return the conversation's row afterwards, and the message's.

    ``values`` are further columns of the conversation to set. A note doesn't become its last message.
    """
    row: dict[str, Any] = {
        "id": work.ids.next(),
        "conversation_id": conversation["id"],
        "session": orjson.loads(conversation["memory"] or "{}").get("session", 0),
        "direction": direction.value,
        "author": author.value,
        "author_id": author_id,
        "external_id": None,
        "content": dumps(content.to_wire()),
        "created_at_ms": work.now_ms,
        "sent_at_ms": None,
        "status": status,
        "error": None,
        "in_reply_to": in_reply_to,
        "client_message_id": client_message_id,
    }
    if direction is not Direction.NOTE:
        values |= {"last_message": message_json(row), "last_message_at_ms": work.now_ms}
    values["updated_at_ms"] = work.now_ms
    # The number is drawn from the conversation's row itself, which is locked from here to the commit.
    row["seq"] = work.connection.execute(
        update(conversations)
        .where(conversations.c.id == conversation["id"])
        .values(last_seq=conversations.c.last_seq + 1, **values)
        .returning(conversations.c.last_seq)
    ).scalar_one()
    work.connection.execute(insert(messages), row)
    after = {**conversation, **values, "last_seq": row["seq"]}
    work.events.append(message_created_event(row, after, now_ms=work.now_ms))
    work.moved.add(conversation["id"])
    return after, row
