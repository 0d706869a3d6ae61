"""What agents do with a whole conversation: claim, release, resolve, transfer, take over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update

from app.core.errors import ConflictError, FieldProblem, ForbiddenError, InvalidError
from app.desk.audit import record
from app.desk.escalations import PolicyOf, end_escalations, enqueue_again, take_open_escalation
from app.desk.events import conversation_event
from app.desk.messages import add_message
from app.desk.ownership import change_owner
from app.desk.packets import read_transcript
from app.desk.people import User, find_user
from app.desk.permissions import Permission
from app.desk.scope import name_of, visible_conversation
from app.desk.signs import touch
from app.desk.wire import conversation_wire
from app.desk.work import Desk, Work
from app.domain.conversations import ConversationState
from app.domain.messages import Author, Content, Direction
from app.storage.tables import conversations, groups

__all__ = ["ConversationService", "check_holder"]


class ConversationService:
    """Changes of a conversation by a person.

    Every method raises NotFoundError for a conversation that isn't the person's to see, and ConflictError
    ``held_by`` (with ``by``) when somebody else holds it, or ``not_held`` when nobody does and that matters.
    """

    def __init__(self, desk: Desk, *, policy_of: PolicyOf) -> None:
        self._desk = desk
        self._policy_of = policy_of

    async def claim(self, user: User, conversation_id: int) -> dict[str, Any]:
        """Take a conversation from the bot, the queue, or the marketplace's own app; again by the holder: the same."""

        def claim(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            if _is_mine(row, user):
                return conversation_wire(row)
            if row["state"] == ConversationState.HUMAN and row["agent_id"] is not None:
                raise _held(name_of(work.connection, row["agent_id"]))
            if row["state"] == ConversationState.CLOSED:
                raise ConflictError(
                    "the conversation is closed; write a message to open it again", code="closed"
                )
            return self._take(work, user, row, "conversation.claim")

        return await self._desk.change(claim)

    async def take_over(self, user: User, conversation_id: int) -> dict[str, Any]:
        """Take a conversation from whoever holds it; for supervisors. Raises ForbiddenError for anybody else."""
        _need_supervisor(user)

        def take_over(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            if _is_mine(row, user):
                return conversation_wire(row)
            return self._take(work, user, row, "conversation.takeover")

        return await self._desk.change(take_over)

    async def release(self, user: User, conversation_id: int) -> dict[str, Any]:
        """Give a conversation back to the bot."""

        def release(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            check_holder(work, row, user)
            end_escalations(work, conversation_id, withdrawn=row["state"] == ConversationState.QUEUED)
            after = change_owner(work, row, ConversationState.BOT, group_id=None, waiting_since_ms=None)
            work.events.append(
                conversation_event(after, now_ms=work.now_ms, agent_id=row["agent_id"] or user.id)
            )
            self._record(work, user, row, "conversation.release", {})
            work.queue_changed = True
            return conversation_wire(after)

        return await self._desk.change(release)

    async def resolve(
        self, user: User, conversation_id: int, *, outcome: str, category: str | None = None
    ) -> dict[str, Any]:
        """Close a conversation; closed already: the same answer. A later message of the buyer's opens a new session."""

        def resolve(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            if row["state"] == ConversationState.CLOSED:
                return conversation_wire(row)
            check_holder(work, row, user)
            end_escalations(work, conversation_id)
            after = change_owner(
                work,
                row,
                ConversationState.CLOSED,
                group_id=None,
                waiting_since_ms=None,
                unread=0,
                stage="closed",
            )
            work.events.append(
                conversation_event(
                    after, "conversation.closed", now_ms=work.now_ms, agent_id=row["agent_id"] or user.id
                )
            )
            self._record(work, user, row, "conversation.resolve", {"outcome": outcome, "category": category})
            work.queue_changed = True
            return conversation_wire(after)

        return await self._desk.change(resolve)

    async def transfer(
        self,
        user: User,
        conversation_id: int,
        *,
        agent_id: int | None = None,
        group_id: str | None = None,
        note: str,
    ) -> dict[str, Any]:
        """Hand a conversation to a colleague, or to a group's queue; it keeps its context and gets the note.

        Raises:
            InvalidError: neither or both of agent and group are given, or it is nobody who could take it.
        """
        if (agent_id is None) == (group_id is None):
            problem = "say either agent_id or group_id"
            raise InvalidError(problem, errors=[FieldProblem("to", problem, "one of the two")])

        def transfer(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            check_holder(work, row, user)
            if note:
                row, _ = add_message(
                    work, row, direction=Direction.NOTE, author=Author.AGENT, author_id=user.id,
                    content=Content(text=note), status="note",
                )  # fmt: skip
            if group_id is not None:
                after = self._to_group(work, row, group_id)
            else:
                assert agent_id is not None
                after = self._to_agent(work, row, agent_id)
            if row["agent_id"] is not None:
                work.events.append(conversation_event(after, now_ms=work.now_ms, agent_id=row["agent_id"]))
            to = {"agent_id": str(agent_id)} if agent_id is not None else {"group_id": group_id}
            self._record(work, user, row, "conversation.transfer", to)
            work.queue_changed = True
            return conversation_wire(after)

        return await self._desk.change(transfer)

    async def read(self, user: User, conversation_id: int) -> None:
        """Note that its holder has read everything so far."""

        def read(work: Work) -> None:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            check_holder(work, row, user)
            work.connection.execute(
                update(conversations).where(conversations.c.id == conversation_id).values(unread=0)
            )
            work.moved.add(conversation_id)

        await self._desk.change(read)

    async def watch(self, user: User, conversation_id: int) -> dict[str, Any]:
        """Return a conversation with its latest messages, for a supervisor who begins to watch it."""
        _need_supervisor(user)
        return await self._desk.database.read(
            lambda connection: {
                "conversation": conversation_wire(visible_conversation(connection, user, conversation_id)),
                "messages": read_transcript(connection, conversation_id),
            }
        )

    def _take(self, work: Work, user: User, row: Mapping[Any, Any], action: str) -> dict[str, Any]:
        take_open_escalation(work, row["id"], user)
        after = change_owner(work, row, ConversationState.HUMAN, agent_id=user.id)
        touch(work, user.id)
        if row["agent_id"] is not None:
            work.events.append(conversation_event(after, now_ms=work.now_ms, agent_id=row["agent_id"]))
        work.events.append(conversation_event(after, "conversation.assigned", now_ms=work.now_ms))
        self._record(work, user, row, action, {})
        work.queue_changed = True
        return conversation_wire(after)

    def _to_group(self, work: Work, row: Mapping[Any, Any], group_id: str) -> Mapping[Any, Any]:
        known = [one.id for one in work.connection.execute(select(groups.c.id).order_by(groups.c.id))]
        if group_id not in known:
            fix = f"one of {', '.join(known)}"
            raise InvalidError(
                f"there is no group {group_id!r}", errors=[FieldProblem("to.group_id", "unknown", fix)]
            )
        return enqueue_again(
            work, row, group_id=group_id, reason="transferred", policy=self._policy_of(row["shop_id"])
        )  # fmt: skip

    def _to_agent(self, work: Work, row: Mapping[Any, Any], agent_id: int) -> Mapping[Any, Any]:
        target = find_user(work.connection, agent_id)
        if target is None or target.is_disabled or not target.sees_shop(row["shop_id"]):
            raise InvalidError(
                "nobody by that id could take it",
                errors=[FieldProblem("to.agent_id", "unknown", "an active colleague who serves the shop")],
            )
        take_open_escalation(work, row["id"], target)
        after = change_owner(work, row, ConversationState.HUMAN, agent_id=agent_id)
        work.events.append(conversation_event(after, "conversation.assigned", now_ms=work.now_ms))
        return after

    def _record(
        self, work: Work, user: User, row: Mapping[Any, Any], action: str, detail: Mapping[str, Any]
    ) -> None:
        record(work.connection, ids=work.ids, actor=user.name, action=action, subject=str(row["id"]),
               at_ms=work.now_ms, detail=detail)  # fmt: skip


def check_holder(work: Work, row: Mapping[Any, Any], user: User) -> None:
    """Refuse a change of a conversation that a person doesn't hold; supervisors may change what nobody holds.

    Raises:
        ConflictError: ``held_by`` with ``by``, or ``not_held``.
    """
    if _is_mine(row, user):
        return
    if row["state"] == ConversationState.HUMAN:
        if row["agent_id"] is not None:
            raise _held(name_of(work.connection, row["agent_id"]))
        # Somebody answers in the marketplace's own app; anybody who may see the conversation can act for them.
        return
    if row["state"] == ConversationState.CLOSED:
        raise ConflictError("the conversation is closed; write a message to open it again", code="closed")
    if user.may(Permission.SUPERVISE):
        return
    raise ConflictError("you don't hold this conversation; claim it first", code="not_held")


def _is_mine(row: Mapping[Any, Any], user: User) -> bool:
    return row["state"] == ConversationState.HUMAN and row["agent_id"] == user.id


def _held(by: str | None) -> ConflictError:
    return ConflictError(f"{by or 'somebody else'} holds this conversation", code="held_by", by=by)


def _need_supervisor(user: User) -> None:
    if not user.may(Permission.SUPERVISE):
        raise ForbiddenError("only a supervisor may do this")
