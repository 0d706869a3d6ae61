"""The console's event log: what agents are told, stored in the transaction that makes it true, pushed afterwards.

Builders are pure: they return rows for table ``console_events``. Who may see a row: ``agent_id`` set, that agent;
else ``group_id`` set, the members of the group; besides, always whoever holds the conversation, and supervisors within
their shops. ``app.desk.hub`` applies it when it reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, text

from app.desk.wire import conversation_wire, dumps, message_wire
from app.storage.closing import do_last
from app.storage.tables import console_events

__all__ = [
    "CONTROL_SESSION_ENDED",
    "CONTROL_TAKEN_OVER",
    "EVENT_TYPES",
    "EventRow",
    "append_events",
    "control_event",
    "conversation_event",
    "event_row",
    "last_seq",
    "message_created_event",
    "message_delivery_event",
    "notice_event",
    "prune_events",
    "suggestions_event",
]

EventRow = dict[str, Any]

EVENT_TYPES = (
    "escalation.offered",
    "escalation.taken",
    "escalation.withdrawn",
    "conversation.assigned",
    "conversation.updated",
    "conversation.closed",
    "message.created",
    "message.delivery",
    "suggestions",
    "sla.warning",
    "sla.breached",
    "notice",
    "resync",
)
"""Everything the server sends by itself. Source: the contracts page, section 4."""

CONTROL = "control."
CONTROL_TAKEN_OVER = CONTROL + "taken_over"
"""An agent's sockets are to be closed, but for the one named ``keep``."""
CONTROL_SESSION_ENDED = CONTROL + "session_ended"
"""The sockets of the session with the hash ``session`` are to be closed."""

_LOCK = 0x68_75_6F_6A_69_01
"""Key of the advisory lock that puts ``seq`` in commit order on PostgreSQL."""

_TAKE_LOCK = text(f"SELECT pg_advisory_xact_lock({_LOCK})")
_INSERT = insert(console_events)


def append_events(connection: Connection, events: Iterable[EventRow]) -> None:
    """Store events inside the caller's transaction; tell ``EventHub.notify`` once it has committed.

    They are written as the last thing before the commit, wherever in the transaction this is called.
    """
    rows = list(events)
    if rows:
        do_last(connection, _insert, rows)


def _insert(connection: Connection, rows: Sequence[EventRow]) -> None:
    if connection.dialect.name == "postgresql":
        # A sequence gives numbers out of commit order when two processes write at once, and a reader that has seen
        # the higher one would never look back for the lower. Held until the commit, the lock makes the orders equal.
        connection.execute(_TAKE_LOCK)
    connection.execute(_INSERT, rows)


def event_row(
    kind: str,
    data: Mapping[str, Any],
    *,
    now_ms: int,
    conversation_id: int | None = None,
    shop_id: str | None = None,
    group_id: str | None = None,
    agent_id: int | None = None,
) -> EventRow:
    """Build any event."""
    return {
        "type": kind,
        "conversation_id": conversation_id,
        "shop_id": shop_id,
        "group_id": group_id,
        "agent_id": agent_id,
        "data": dumps(data),
        "created_at_ms": now_ms,
    }


def control_event(kind: str, data: Mapping[str, str], *, agent_id: int, now_ms: int) -> EventRow:
    """Say something to whoever holds sockets of an agent, at whichever process. It is never pushed to anybody."""
    return event_row(kind, data, now_ms=now_ms, agent_id=agent_id)


def message_created_event(
    message: Mapping[Any, Any], conversation: Mapping[Any, Any], *, now_ms: int
) -> EventRow:
    """A message came to be: rows of ``messages`` and ``conversations`` (as after the change)."""
    return _about(conversation, "message.created", message_wire(message), now_ms=now_ms)


def message_delivery_event(
    conversation: Mapping[Any, Any], *, message_id: int, status: str, error: str | None, now_ms: int
) -> EventRow:
    """What became of a message on its way out: ``status`` is sent, failed or unconfirmed."""
    data: dict[str, Any] = {
        "message_id": str(message_id),
        "conversation_id": str(conversation["id"]),
        "status": status,
    }
    if error is not None:
        data["error"] = error
    return _about(conversation, "message.delivery", data, now_ms=now_ms)


def conversation_event(
    conversation: Mapping[Any, Any],
    kind: str = "conversation.updated",
    *,
    now_ms: int,
    agent_id: int | None = None,
) -> EventRow:
    """A conversation changed; ``agent_id`` addresses somebody other than its audience of now."""
    data = conversation_wire(conversation)
    if agent_id is None:
        return _about(conversation, kind, data, now_ms=now_ms)
    return event_row(
        kind, data, now_ms=now_ms, conversation_id=conversation["id"], shop_id=conversation["shop_id"],
        agent_id=agent_id,
    )  # fmt: skip


def suggestions_event(
    conversation: Mapping[Any, Any], suggestions: Iterable[Mapping[str, Any]], *, now_ms: int
) -> EventRow:
    """Answers that a human may send: items as ``app.desk.wire.suggestion_wire`` makes them."""
    data = {"conversation_id": str(conversation["id"]), "items": [dict(one) for one in suggestions]}
    return _about(conversation, "suggestions", data, now_ms=now_ms)


def notice_event(
    *,
    code: str,
    text: str,
    now_ms: int,
    conversation: Mapping[Any, Any] | None = None,
    agent_id: int | None = None,
    group_id: str | None = None,
) -> EventRow:
    """Something a person should know, for one agent or one group."""
    data = {
        "conversation_id": None if conversation is None else str(conversation["id"]),
        "code": code,
        "text": text,
    }
    return event_row(
        "notice", data, now_ms=now_ms, agent_id=agent_id, group_id=group_id,
        conversation_id=None if conversation is None else conversation["id"],
        shop_id=None if conversation is None else conversation["shop_id"],
    )  # fmt: skip


def last_seq(connection: Connection) -> int:
    """Return the number of the latest event, 0 before the first."""
    return connection.execute(select(func.max(console_events.c.seq))).scalar() or 0


def prune_events(connection: Connection, *, before_ms: int) -> int:
    """Remove events older than an instant, but never the latest, from which "too old" is told; return how many."""
    return connection.execute(
        delete(console_events).where(
            console_events.c.created_at_ms < before_ms, console_events.c.seq < last_seq(connection)
        )
    ).rowcount


def _about(conversation: Mapping[Any, Any], kind: str, data: Mapping[str, Any], *, now_ms: int) -> EventRow:
    state = conversation["state"]
    return event_row(
        kind,
        data,
        now_ms=now_ms,
        conversation_id=conversation["id"],
        shop_id=conversation["shop_id"],
        group_id=conversation["group_id"] if state == "queued" else None,
        agent_id=conversation["agent_id"] if state == "human" else None,
    )
