"""An agent's replies and notes: checked, stored once, put on their way in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from app.core.errors import ConflictError, FieldProblem, ForbiddenError, InvalidError
from app.delivery.outbox import enqueue_outbound
from app.desk.conversations import check_holder
from app.desk.escalations import take_open_escalation
from app.desk.events import conversation_event, notice_event
from app.desk.messages import add_message
from app.desk.ownership import change_owner
from app.desk.people import User
from app.desk.permissions import Permission
from app.desk.scope import visible_conversation
from app.desk.signs import touch
from app.desk.wire import message_wire
from app.desk.work import Desk, Work
from app.domain.conversations import ConversationState
from app.domain.messages import Author, Content, ContentType, Direction
from app.storage.tables import messages

__all__ = ["CheckText", "SendService"]

CheckText = Callable[[str], Sequence[object]]
"""The outbound guard: what it finds wrong with a text, each as something that says so when turned into a string."""

SENDABLE = frozenset({ContentType.TEXT, ContentType.IMAGE, ContentType.VIDEO, ContentType.PRODUCT_CARD})
MAX_TEXT = 4_000


class SendService:
    """Sending and noting."""

    def __init__(self, desk: Desk, *, check_text: CheckText) -> None:
        self._desk = desk
        self._check_text = check_text

    async def send(
        self,
        user: User,
        conversation_id: int,
        content: Content,
        *,
        client_message_id: str,
        last_seen_message_id: int | None = None,
        confirm: bool = False,
    ) -> dict[str, Any]:
        """Send a reply; return the message. The same ``client_message_id`` again sends nothing and returns the same.

        In a closed conversation an agent may write first and holds it then.

        Raises:
            NotFoundError: the conversation isn't one's to see.
            ConflictError: ``held_by``, ``not_held``; ``stale``: the buyer or a colleague wrote after
                ``last_seen_message_id``.
            InvalidError: ``guard``: the outbound guard objects (``errors`` says why); or the content can't be sent.
        """
        _check_content(content)
        findings = () if confirm or not content.text else self._check_text(content.text)

        def send(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            stored = _stored(work, conversation_id, client_message_id)
            if stored is not None:
                return message_wire(stored)
            if row["state"] != ConversationState.CLOSED:
                check_holder(work, row, user)
            if not confirm and last_seen_message_id is not None:
                _check_seen(work, row, user, last_seen_message_id)
            if findings:
                raise _guarded(findings)
            if row["state"] == ConversationState.CLOSED or row["agent_id"] is None:
                take_open_escalation(work, conversation_id, user)
                row = change_owner(work, row, ConversationState.HUMAN, agent_id=user.id)
                work.events.append(conversation_event(row, "conversation.assigned", now_ms=work.now_ms))
            touch(work, user.id)
            answered = _unanswered(work, conversation_id)
            row, message = add_message(
                work, row, direction=Direction.OUT, author=Author.AGENT, author_id=user.id, content=content,
                status="queued", client_message_id=client_message_id,
                in_reply_to=answered[-1]["id"] if answered else None, unread=0, waiting_since_ms=None,
            )  # fmt: skip
            external = tuple(one["external_id"] for one in answered if one["external_id"] is not None)
            work.enqueued.append(
                enqueue_outbound(
                    work.connection,
                    ids=work.ids,
                    conversation=row,
                    message_id=message["id"],
                    author=Author.AGENT,
                    content=content,
                    now_ms=work.now_ms,
                    in_reply_to=external[-1] if external else None,
                    answers=external or None,
                    supersedable=False,
                )
            )
            return message_wire(message)

        return await self._desk.change(send)

    async def note(self, user: User, conversation_id: int, text: str) -> dict[str, Any]:
        """Write an internal note, which nothing ever sends; return it. Raises NotFoundError, InvalidError."""
        content = Content(text=text)
        _check_content(content)

        def note(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            _, message = add_message(
                work, row, direction=Direction.NOTE, author=Author.AGENT, author_id=user.id, content=content,
                status="note",
            )  # fmt: skip
            return message_wire(message)

        return await self._desk.change(note)

    async def whisper(self, user: User, conversation_id: int, text: str) -> dict[str, Any]:
        """Write a note that its holder is also notified of; for supervisors. Raises ForbiddenError for others."""
        if not user.may(Permission.SUPERVISE):
            raise ForbiddenError("only a supervisor may whisper")
        content = Content(text=text)
        _check_content(content)

        def whisper(work: Work) -> dict[str, Any]:
            row = visible_conversation(work.connection, user, conversation_id, lock=True)
            row, message = add_message(
                work, row, direction=Direction.NOTE, author=Author.AGENT, author_id=user.id, content=content,
                status="note",
            )  # fmt: skip
            if row["state"] == ConversationState.HUMAN and row["agent_id"] is not None:
                work.events.append(
                    notice_event(
                        code="whisper",
                        text=text,
                        now_ms=work.now_ms,
                        conversation=row,
                        agent_id=row["agent_id"],
                    )
                )
            return message_wire(message)

        return await self._desk.change(whisper)


def _check_content(content: Content) -> None:
    if content.type not in SENDABLE:
        fix = ", ".join(sorted(SENDABLE))
        raise InvalidError(
            f"{content.type.value} can't be sent", errors=[FieldProblem("content.type", "not sendable", fix)]
        )
    if content.type is ContentType.TEXT and not content.text.strip():
        raise InvalidError(
            "the text is empty", errors=[FieldProblem("content.text", "empty", "write something")]
        )
    if len(content.text) > MAX_TEXT:
        fix = f"at most {MAX_TEXT} characters"
        raise InvalidError(
            f"the text is too long; {fix}", errors=[FieldProblem("content.text", "too long", fix)]
        )
    if content.type in (ContentType.IMAGE, ContentType.VIDEO) and not content.url:
        raise InvalidError(
            "the url is missing", errors=[FieldProblem("content.url", "missing", "an https address")]
        )
    if content.type is ContentType.PRODUCT_CARD and not content.product_id:
        raise InvalidError(
            "the product is missing", errors=[FieldProblem("content.product_id", "missing", "a product's id")]
        )


def _stored(work: Work, conversation_id: int, client_message_id: str) -> Mapping[Any, Any] | None:
    return (
        work.connection.execute(
            select(messages).where(
                messages.c.conversation_id == conversation_id,
                messages.c.client_message_id == client_message_id,
            )
        )
        .mappings()
        .one_or_none()
    )


def _check_seen(work: Work, row: Mapping[Any, Any], user: User, last_seen: int) -> None:
    seen = work.connection.execute(
        select(messages.c.seq).where(messages.c.id == last_seen, messages.c.conversation_id == row["id"])
    ).scalar()
    newer = work.connection.execute(
        select(func.count())
        .select_from(messages)
        .where(
            messages.c.conversation_id == row["id"],
            messages.c.seq > (seen or 0),
            messages.c.direction != Direction.NOTE.value,
            messages.c.status != "dropped",
            (messages.c.author_id.is_(None)) | (messages.c.author_id != user.id),
        )
    ).scalar_one()
    if newer:
        raise ConflictError("something newer was written; look at it before you send", code="stale")


def _unanswered(work: Work, conversation_id: int) -> list[Mapping[Any, Any]]:
    """The buyer's messages since the last one that went out, oldest first."""
    last_out = (
        select(func.coalesce(func.max(messages.c.seq), 0))
        .where(
            messages.c.conversation_id == conversation_id,
            messages.c.direction == Direction.OUT.value,
            messages.c.status != "dropped",
        )
        .scalar_subquery()
    )
    rows = work.connection.execute(
        select(messages.c.id, messages.c.external_id)
        .where(
            messages.c.conversation_id == conversation_id,
            messages.c.direction == Direction.IN.value,
            messages.c.seq > last_out,
        )
        .order_by(messages.c.seq)
    ).mappings()
    return [dict(row) for row in rows]


def _guarded(findings: Sequence[object]) -> InvalidError:
    return InvalidError(
        "this text may break a rule; send it again confirmed if it is right",
        code="guard",
        errors=[
            FieldProblem("content.text", str(finding), "write it differently, or confirm")
            for finding in findings
        ],
    )
