"""Changing who owns a conversation: one conditional UPDATE that raises its version, and what always goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from app.core.errors import ConflictError, InvariantError
from app.delivery.outbox import drop_supersedable
from app.desk.events import message_delivery_event
from app.desk.scope import read_conversation
from app.desk.work import Work
from app.domain.conversations import ConversationState, is_legal
from app.storage.tables import conversations, outbox

__all__ = ["change_owner"]


def change_owner(
    work: Work,
    conversation: Mapping[Any, Any],
    state: ConversationState,
    *,
    agent_id: int | None = None,
    **values: Any,
) -> Mapping[Any, Any]:
    """Move a conversation, as it was read in this transaction, to a new owner; return its row afterwards.

    ``values`` are further columns to set. Towards a human, whatever the bot still had to send is dropped.

    Raises:
        ConflictError: it has changed since it was read (``changed``).
        InvariantError: the owner machine has no such step.
    """
    before = ConversationState(conversation["state"])
    if not is_legal(before, state):
        raise InvariantError(f"a conversation can't go from {before} to {state}")
    changed = work.connection.execute(
        update(conversations)
        .where(
            conversations.c.id == conversation["id"],
            conversations.c.version == conversation["version"],
            conversations.c.state == before.value,
            conversations.c.agent_id.is_(None)
            if conversation["agent_id"] is None
            else conversations.c.agent_id == conversation["agent_id"],
        )
        .values(
            state=state.value,
            agent_id=agent_id,
            version=conversations.c.version + 1,
            updated_at_ms=work.now_ms,
            **values,
        )
    ).rowcount
    if changed != 1:
        raise ConflictError("the conversation has just changed; look at it again", code="changed")
    work.moved.add(conversation["id"])
    if state is ConversationState.HUMAN:
        _supersede(work, conversation)
    return read_conversation(work.connection, conversation["id"])


def _supersede(work: Work, conversation: Mapping[Any, Any]) -> None:
    waiting = work.connection.execute(
        select(outbox.c.message_id).where(
            outbox.c.partition == conversation["partition"],
            outbox.c.state == "open",
            outbox.c.conversation_id == conversation["id"],
            outbox.c.supersedable,
        )
    ).all()
    if not waiting:
        return
    drop_supersedable(work.connection, conversation["id"], now_ms=work.now_ms)
    for row in waiting:
        work.events.append(
            message_delivery_event(
                conversation,
                message_id=row.message_id,
                status="failed",
                error="superseded",
                now_ms=work.now_ms,
            )
        )
