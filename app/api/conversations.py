"""Conversations and their messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query
from sqlalchemy import Connection, and_, or_, select

from app.api.context import (
    Caller,
    Cursor,
    Limit,
    Services,
    as_id,
    cut_page,
    need,
    person,
    read_cursor,
)
from app.api.once import IdempotencyKey
from app.api.schemas import ConversationOut, MessageOut, MessagePost, Page, ResolveBody, TransferBody
from app.core.errors import NotFoundError
from app.desk.permissions import Permission
from app.desk.scope import conversation_query, visible_conversation, visible_conversations
from app.desk.wire import conversation_wire, message_wire
from app.storage.tables import conversations, decisions, messages

__all__ = ["router"]

router = APIRouter(tags=["conversations"], dependencies=[need(Permission.WORK)])

StateName = Literal["bot", "queued", "human", "closed"]


@router.get("/conversations", response_model=Page[ConversationOut], operation_id="listConversations")
async def list_conversations(
    principal: Caller,
    api: Services,
    state: StateName | None = None,
    group: Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")] = None,
    agent: Annotated[str | None, Query(description="`me` or a user's id")] = None,
    shop: Annotated[str | None, Query(max_length=64, pattern=r"^[^\x00]*$")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """What one may see, the latest changed first."""
    user = principal.scope()
    after = read_cursor(cursor, 2)
    query = conversation_query().where(visible_conversations(user))
    if state is not None:
        query = query.where(conversations.c.state == state)
    if group is not None:
        query = query.where(conversations.c.group_id == group)
    if agent is not None:
        query = query.where(conversations.c.agent_id == (user.id if agent == "me" else as_id(agent)))
    if shop is not None:
        query = query.where(conversations.c.shop_id == shop)
    if after is not None:
        at, last = after
        query = query.where(
            or_(
                conversations.c.updated_at_ms < at,
                and_(conversations.c.updated_at_ms == at, conversations.c.id < last),
            )
        )
    query = query.order_by(conversations.c.updated_at_ms.desc(), conversations.c.id.desc()).limit(limit + 1)
    rows = await api.database.read(lambda connection: connection.execute(query).mappings().all())
    return cut_page(rows, limit, lambda row: [row["updated_at_ms"], row["id"]], conversation_wire)


@router.get(
    "/conversations/{conversation_id}", response_model=ConversationOut, operation_id="getConversation"
)
async def get_conversation(conversation_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """One conversation."""
    number = as_id(conversation_id)
    return await api.database.read(
        lambda connection: conversation_wire(visible_conversation(connection, principal.scope(), number))
    )


@router.get(
    "/conversations/{conversation_id}/messages", response_model=Page[MessageOut], operation_id="listMessages"
)
async def list_messages(
    conversation_id: str, principal: Caller, api: Services, limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """A conversation's messages and notes, the latest first."""
    number = as_id(conversation_id)
    before = read_cursor(cursor, 1)

    def look(connection: Connection) -> Any:
        visible_conversation(connection, principal.scope(), number)
        query = select(messages).where(messages.c.conversation_id == number)
        if before is not None:
            query = query.where(messages.c.seq < before[0])
        return connection.execute(query.order_by(messages.c.seq.desc()).limit(limit + 1)).mappings().all()

    return cut_page(await api.database.read(look), limit, lambda row: [row["seq"]], message_wire)


@router.post(
    "/conversations/{conversation_id}/messages",
    status_code=201,
    response_model=MessageOut,
    operation_id="sendMessage",
)
async def send_message(
    conversation_id: str, body: MessagePost, principal: Caller, api: Services, key: IdempotencyKey = None
) -> dict[str, Any]:
    """Send a reply, or write a note. Repeated under the same key, nothing is sent again."""
    user, number = person(principal), as_id(conversation_id)
    if body.note:
        return await api.sending.note(user, number, body.content.text)
    return await api.sending.send(
        user,
        number,
        body.content.to_content(),
        client_message_id=body.client_message_id or key or api.ids.token(16),
        last_seen_message_id=body.last_seen_message_id,
        confirm=body.confirm,
    )


@router.post(
    "/conversations/{conversation_id}/claim", response_model=ConversationOut, operation_id="claimConversation"
)
async def claim(conversation_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """Take a conversation from the bot or the queue."""
    return await api.conversations.claim(person(principal), as_id(conversation_id))


@router.post(
    "/conversations/{conversation_id}/release",
    response_model=ConversationOut,
    operation_id="releaseConversation",
)
async def release(conversation_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """Give a conversation back to the bot."""
    return await api.conversations.release(person(principal), as_id(conversation_id))


@router.post(
    "/conversations/{conversation_id}/resolve",
    response_model=ConversationOut,
    operation_id="resolveConversation",
)
async def resolve(
    conversation_id: str, body: ResolveBody, principal: Caller, api: Services
) -> dict[str, Any]:
    """Close a conversation."""
    return await api.conversations.resolve(
        person(principal), as_id(conversation_id), outcome=body.outcome, category=body.category
    )


@router.post(
    "/conversations/{conversation_id}/transfer",
    response_model=ConversationOut,
    operation_id="transferConversation",
)
async def transfer(
    conversation_id: str, body: TransferBody, principal: Caller, api: Services
) -> dict[str, Any]:
    """Hand a conversation to a colleague or a group."""
    return await api.conversations.transfer(
        person(principal),
        as_id(conversation_id),
        agent_id=body.agent_id,
        group_id=body.group_id,
        note=body.note,
    )


@router.get("/messages/{message_id}", response_model=MessageOut, operation_id="getMessage")
async def get_message(message_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """One message with the decision that it led to or came from: version, entry, score, runners-up, reasons."""
    number = as_id(message_id)

    def look(connection: Connection) -> dict[str, Any]:
        row = connection.execute(select(messages).where(messages.c.id == number)).mappings().one_or_none()
        if row is None:
            raise NotFoundError("there is no such message")
        visible_conversation(connection, principal.scope(), row["conversation_id"])
        decision = None
        if row["decision_id"] is not None:
            query = select(decisions).where(decisions.c.id == row["decision_id"])
            decision = connection.execute(query).mappings().one_or_none()
        if decision is None:
            return message_wire(row)
        return message_wire(
            row,
            decision={
                "id": str(decision["id"]),
                "kind": decision["kind"],
                "knowledge_version": decision["knowledge_version"],
                "entry_id": decision["entry_id"],
                "confidence": decision["confidence"],
                "band": decision["band"],
                "rule": decision["rule"],
                "micros": decision["micros"],
                "detail": orjson.loads(decision["detail"]),
            },
        )

    return await api.database.read(look)
