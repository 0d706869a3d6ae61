"""What an agent is shown of an escalation: why, how urgent, the order, the latest messages, three suggestions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, select

from app.core.clock import rfc3339
from app.desk.events import EventRow, event_row
from app.desk.wire import conversation_wire, dumps, mask_order, message_wire, suggestion_wire, text_id
from app.domain.shops import ShopPolicy
from app.domain.turns import Escalation, Suggestion
from app.storage.tables import messages

__all__ = ["TRANSCRIPT_LENGTH", "escalation_row", "escalation_wire", "offered_event", "read_transcript"]

TRANSCRIPT_LENGTH = 20
SUGGESTIONS = 3


def escalation_row(
    *,
    escalation_id: int,
    conversation_id: int,
    shop_id: str,
    escalation: Escalation,
    policy: ShopPolicy,
    now_ms: int,
    waiting_since_ms: int | None = None,
    order: Mapping[str, Any] | None = None,
    orders: Sequence[Mapping[str, Any]] = (),
    suggestions: Sequence[Suggestion] = (),
) -> dict[str, Any]:
    """Build a row of table ``escalations``, to be stored in the transaction that decides it.

    ``order`` and ``orders`` are order contexts; personal data in them is masked here. ``waiting_since_ms``: since when
    the buyer waits, now unless told. The transcript isn't stored: it is read when the escalation is shown, so that
    it holds what was written meanwhile. Kick the router after the commit.
    """
    packet = {
        "order": mask_order(order),
        "orders": [mask_order(one) for one in orders],
        "suggestions": [suggestion_wire(one) for one in suggestions[:SUGGESTIONS]],
    }
    return {
        "id": escalation_id,
        "conversation_id": conversation_id,
        "shop_id": shop_id,
        "group_id": escalation.group,
        "rule": escalation.rule,
        "reason": escalation.reason,
        "priority": escalation.priority.value,
        "priority_rank": escalation.priority.rank,
        "major": escalation.major,
        "state": "open",
        "packet": dumps(packet),
        "waiting_since_ms": now_ms if waiting_since_ms is None else waiting_since_ms,
        "deadline_ms": now_ms + policy.leader_alert_seconds * 1000,
        "declined_by": "[]",
        "created_at_ms": now_ms,
    }


def read_transcript(
    connection: Connection, conversation_id: int, *, limit: int = TRANSCRIPT_LENGTH
) -> list[dict[str, Any]]:
    """Return the latest messages of a conversation, oldest first."""
    rows = connection.execute(
        select(messages)
        .where(messages.c.conversation_id == conversation_id)
        .order_by(messages.c.seq.desc())
        .limit(limit)
    ).mappings()  # fmt: skip
    return [message_wire(row) for row in rows][::-1]


def escalation_wire(
    connection: Connection,
    escalation: Mapping[Any, Any],
    conversation: Mapping[Any, Any],
    *,
    deadline_ms: int | None = None,
) -> dict[str, Any]:
    """Return a row of ``escalations`` as agents get it, with its conversation and transcript as of now.

    ``deadline_ms``: until when it waits for the agent it is offered to; else when the group's leader is told.
    """
    packet = orjson.loads(escalation["packet"])
    return {
        "escalation_id": str(escalation["id"]),
        "conversation": conversation_wire(conversation),
        "group_id": escalation["group_id"],
        "rule": escalation["rule"],
        "reason": escalation["reason"],
        "priority": escalation["priority"],
        "major": bool(escalation["major"]),
        "waiting_since": rfc3339(escalation["waiting_since_ms"]),
        "deadline": rfc3339(escalation["deadline_ms"] if deadline_ms is None else deadline_ms),
        "order": packet["order"],
        "orders": packet["orders"],
        "transcript": read_transcript(connection, escalation["conversation_id"]),
        "suggestions": packet["suggestions"],
        "offered_to": text_id(escalation["offered_to"]),
    }


def offered_event(
    connection: Connection,
    escalation: Mapping[Any, Any],
    conversation: Mapping[Any, Any],
    *,
    agent_id: int,
    deadline_ms: int,
    now_ms: int,
) -> EventRow:
    """Build ``escalation.offered`` for one agent."""
    data = escalation_wire(
        connection, {**escalation, "offered_to": agent_id}, conversation, deadline_ms=deadline_ms
    )
    return event_row(
        "escalation.offered",
        data,
        now_ms=now_ms,
        conversation_id=escalation["conversation_id"],
        shop_id=escalation["shop_id"],
        agent_id=agent_id,
    )
