"""Escalations: accepted by exactly one, declined, withdrawn, put back in the queue, raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import insert, select, update

from app.core.errors import ConflictError, HuojiError, NotFoundError
from app.desk.audit import record
from app.desk.events import EventRow, conversation_event, event_row
from app.desk.ownership import change_owner
from app.desk.packets import escalation_row
from app.desk.people import User, find_user
from app.desk.scope import escalation_is_visible, name_of, read_conversation
from app.desk.signs import touch
from app.desk.wire import conversation_wire
from app.desk.work import Desk, Work
from app.domain.conversations import ConversationState, Priority
from app.domain.shops import ShopPolicy
from app.domain.turns import Escalation
from app.storage.tables import conversations, escalations

__all__ = [
    "EscalationService",
    "PolicyOf",
    "end_escalations",
    "enqueue_again",
    "raise_escalation",
    "take_open_escalation",
]

PolicyOf = Callable[[str], ShopPolicy]
"""Gives the settings of a shop by its id."""


class EscalationService:
    """What an agent may do with an escalation."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def accept(self, user: User, escalation_id: int) -> dict[str, Any]:
        """Take an escalation and with it its conversation; return the conversation. Again by the winner: the same.

        Raises:
            NotFoundError: no such escalation, or not one's to see.
            ConflictError: ``taken`` with ``by``, or ``withdrawn``: nobody needs it any more.
        """
        return await self._desk.change(lambda work: _accept(work, user, escalation_id))

    async def decline(self, user: User, escalation_id: int, *, reason: str | None = None) -> None:
        """Leave it to the next. Raises NotFoundError, ConflictError as ``accept``."""

        def decline(work: Work) -> None:
            row = _visible(work, user, escalation_id)
            read_conversation(work.connection, row["conversation_id"], lock=True)
            row = _visible(work, user, escalation_id)
            if row["state"] != "open":
                raise _too_late(work, row)
            declined = json.loads(row["declined_by"])
            if user.id not in declined:
                declined.append(user.id)
            values: dict[str, Any] = {"declined_by": json.dumps(declined)}
            if row["offered_to"] == user.id:
                values |= {"offered_to": None, "offered_at_ms": None}
            work.connection.execute(
                update(escalations)
                .where(escalations.c.id == escalation_id, escalations.c.state == "open")
                .values(**values)
            )
            record(work.connection, ids=work.ids, actor=user.name, action="escalation.decline",
                   subject=str(escalation_id), at_ms=work.now_ms, detail={"reason": reason})  # fmt: skip
            work.queue_changed = True

        await self._desk.change(decline)


def _accept(work: Work, user: User, escalation_id: int) -> dict[str, Any]:
    before = _visible(work, user, escalation_id)
    conversation = read_conversation(work.connection, before["conversation_id"], lock=True)
    won = work.connection.execute(
        update(escalations)
        .where(escalations.c.id == escalation_id, escalations.c.state == "open", escalation_is_visible(user))
        .values(state="accepted", accepted_by=user.id, accepted_at_ms=work.now_ms)
    ).rowcount
    row = _visible(work, user, escalation_id)
    if won != 1:
        if row["state"] == "accepted" and row["accepted_by"] == user.id:
            return conversation_wire(conversation)
        raise _too_late(work, row)
    if conversation["state"] == ConversationState.HUMAN and conversation["agent_id"] is not None:
        raise _taken(name_of(work.connection, conversation["agent_id"]))
    if conversation["state"] == ConversationState.CLOSED:
        raise _withdrawn()
    after = change_owner(
        work, conversation, ConversationState.HUMAN, agent_id=user.id, group_id=row["group_id"]
    )  # fmt: skip
    _announce_taken(work, row, by=user.name)
    touch(work, user.id)
    work.events.append(conversation_event(after, "conversation.assigned", now_ms=work.now_ms))
    record(work.connection, ids=work.ids, actor=user.name, action="escalation.accept", subject=str(escalation_id),
           at_ms=work.now_ms, detail={"conversation_id": str(row["conversation_id"])})  # fmt: skip
    work.queue_changed = True
    return conversation_wire(after)


def take_open_escalation(work: Work, conversation_id: int, user: User) -> None:
    """Mark a conversation's open escalation, if any, as accepted by whoever just took the conversation itself."""
    row = _open_escalation(work, conversation_id)
    if row is None:
        return
    work.connection.execute(
        update(escalations)
        .where(escalations.c.id == row["id"], escalations.c.state == "open")
        .values(state="accepted", accepted_by=user.id, accepted_at_ms=work.now_ms)
    )
    _announce_taken(work, row, by=user.name)
    work.queue_changed = True


def end_escalations(work: Work, conversation_id: int, *, withdrawn: bool = False) -> None:
    """End what is open or accepted of a conversation: closed, or withdrawn because nobody is needed any more."""
    row = _open_escalation(work, conversation_id)
    if row is not None:
        work.connection.execute(
            update(escalations)
            .where(escalations.c.id == row["id"])
            .values(state="withdrawn" if withdrawn else "closed", closed_at_ms=work.now_ms)
        )
        _announce(work, row, "escalation.withdrawn", {})
        work.queue_changed = True
    work.connection.execute(
        update(escalations)
        .where(escalations.c.conversation_id == conversation_id, escalations.c.state == "accepted")
        .values(state="closed", closed_at_ms=work.now_ms)
    )


def enqueue_again(
    work: Work, conversation: Mapping[Any, Any], *, group_id: str, reason: str, policy: ShopPolicy
) -> Mapping[Any, Any]:
    """Put a conversation that a human holds back in the queue at its old place; return its row afterwards.

    The escalation that brought it to a human is opened again, waiting since the same instant as before; where there
    was none, one is made for ``reason``.
    """
    before = (
        work.connection.execute(
            select(escalations)
            .where(
                escalations.c.conversation_id == conversation["id"],
                escalations.c.state.in_(("open", "accepted")),
            )
            .order_by(escalations.c.id.desc())
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    if before is not None:
        waiting_since: int = before["waiting_since_ms"]
        work.connection.execute(
            update(escalations)
            .where(escalations.c.id == before["id"])
            .values(
                state="open",
                group_id=group_id,
                accepted_by=None,
                accepted_at_ms=None,
                offered_to=None,
                offered_at_ms=None,
                declined_by="[]",
                deadline_ms=work.now_ms + policy.leader_alert_seconds * 1000,
            )
        )
    else:
        waiting_since = conversation["waiting_since_ms"] or work.now_ms
        row = escalation_row(
            escalation_id=work.ids.next(),
            conversation_id=conversation["id"],
            shop_id=conversation["shop_id"],
            escalation=Escalation(
                group=group_id, rule="desk", reason=reason, priority=Priority(conversation["priority"])
            ),
            policy=policy,
            now_ms=work.now_ms,
            waiting_since_ms=waiting_since,
        )
        work.connection.execute(insert(escalations), row)
    after = change_owner(
        work, conversation, ConversationState.QUEUED, group_id=group_id, waiting_since_ms=waiting_since
    )  # fmt: skip
    work.events.append(conversation_event(after, now_ms=work.now_ms))
    work.queue_changed = True
    return after


def raise_escalation(
    work: Work, conversation_id: int, *, priority: Priority, group_id: str | None = None, major: bool = False
) -> bool:
    """Raise an open escalation's priority, and move it when a group is named; False when none is open.

    A priority is never lowered. A move withdraws the offer that was out.
    """
    row = _open_escalation(work, conversation_id)
    if row is None:
        return False
    values: dict[str, Any] = {}
    if priority.rank > row["priority_rank"]:
        values |= {"priority": priority.value, "priority_rank": priority.rank}
    if major and not row["major"]:
        values["major"] = True
    if group_id is not None and group_id != row["group_id"]:
        values |= {"group_id": group_id, "offered_to": None, "offered_at_ms": None, "declined_by": "[]"}
        _announce(work, row, "escalation.withdrawn", {})
    if values:
        work.connection.execute(update(escalations).where(escalations.c.id == row["id"]).values(**values))
        mirrored = {name: values[name] for name in ("priority", "group_id") if name in values}
        if mirrored:
            work.connection.execute(
                update(conversations)
                .where(conversations.c.id == conversation_id)
                .values(**mirrored, updated_at_ms=work.now_ms)
            )
            work.moved.add(conversation_id)
        work.queue_changed = True
    return True


def _open_escalation(work: Work, conversation_id: int) -> Mapping[Any, Any] | None:
    return (
        work.connection.execute(
            select(escalations).where(
                escalations.c.conversation_id == conversation_id, escalations.c.state == "open"
            )
        )
        .mappings()
        .one_or_none()
    )


def _visible(work: Work, user: User, escalation_id: int) -> Mapping[Any, Any]:
    row = (
        work.connection.execute(
            select(escalations).where(escalations.c.id == escalation_id, escalation_is_visible(user))
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise NotFoundError("there is no such escalation")
    return row


def _announce_taken(work: Work, row: Mapping[Any, Any], *, by: str) -> None:
    _announce(work, row, "escalation.taken", {"by": by})


def _announce(work: Work, row: Mapping[Any, Any], kind: str, more: Mapping[str, Any]) -> None:
    data = {"escalation_id": str(row["id"]), "conversation_id": str(row["conversation_id"]), **more}

    def event(*, group_id: str | None = None, agent_id: int | None = None) -> EventRow:
        return event_row(
            kind, data, now_ms=work.now_ms, shop_id=row["shop_id"], conversation_id=row["conversation_id"],
            group_id=group_id, agent_id=agent_id,
        )  # fmt: skip

    work.events.append(event(group_id=row["group_id"]))
    if row["offered_to"] is not None:
        offered_to = find_user(work.connection, row["offered_to"])
        if offered_to is not None and not offered_to.serves(row["group_id"]):
            # Somebody from outside the group was standing in.
            work.events.append(event(agent_id=offered_to.id))


def _too_late(work: Work, row: Mapping[Any, Any]) -> HuojiError:
    if row["state"] == "accepted":
        return _taken(name_of(work.connection, row["accepted_by"]))
    return _withdrawn()


def _taken(by: str | None) -> ConflictError:
    return ConflictError(f"{by or 'somebody else'} has taken it already", code="taken", by=by)


def _withdrawn() -> ConflictError:
    return ConflictError("nobody is needed here any more", code="withdrawn")
