"""What a person may see, as conditions of queries. What isn't yours looks as if it didn't exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, or_, select, true

from app.core.errors import NotFoundError
from app.desk.people import User
from app.desk.permissions import SUPERVISOR_GROUP, Permission
from app.storage.tables import buyers, conversations, escalations, users

__all__ = [
    "conversation_query",
    "escalation_is_visible",
    "name_of",
    "read_conversation",
    "visible_conversation",
    "visible_conversations",
]


def visible_conversations(user: User) -> ColumnElement[bool]:
    """Return the condition on ``conversations``: one's shops; one's own, unassigned ones and one's groups'."""
    shops = _in_shops(conversations, user)
    if user.may(Permission.SUPERVISE):
        return shops
    mine = or_(
        conversations.c.agent_id == user.id,
        conversations.c.group_id.is_(None),
        _serves(conversations.c.group_id, user),
    )
    return and_(shops, mine)


def escalation_is_visible(user: User) -> ColumnElement[bool]:
    """Return the condition on ``escalations``: one's groups', those offered to one, and those one took."""
    shops = _in_shops(escalations, user)
    if user.may(Permission.SUPERVISE):
        return shops
    mine = or_(
        _serves(escalations.c.group_id, user),
        escalations.c.offered_to == user.id,
        escalations.c.accepted_by == user.id,
    )
    return and_(shops, mine)


def conversation_query() -> Any:
    """Return the query for conversations with their buyers' tags beside them."""
    return select(conversations, buyers.c.tags.label("buyer_tags")).outerjoin(
        buyers, buyers.c.id == conversations.c.buyer_id
    )


def read_conversation(
    connection: Connection, conversation_id: int, *, lock: bool = False
) -> Mapping[Any, Any]:
    """Read one conversation whoever asks. Raises NotFoundError.

    ``lock``: nobody else may change it until the transaction ends. Whoever changes a conversation and what belongs to it
    begins with this, so that two processes never wait for each other.
    """
    query = conversation_query().where(conversations.c.id == conversation_id)
    row = connection.execute(_locked(query) if lock else query).mappings().one_or_none()
    if row is None:
        raise NotFoundError("there is no such conversation")
    return row


def visible_conversation(
    connection: Connection, user: User, conversation_id: int, *, lock: bool = False
) -> Mapping[Any, Any]:
    """Read one conversation that a person may see. Raises NotFoundError, also when it exists out of scope.

    ``lock`` as for ``read_conversation``.
    """
    query = conversation_query().where(conversations.c.id == conversation_id, visible_conversations(user))
    row = connection.execute(_locked(query) if lock else query).mappings().one_or_none()
    if row is None:
        raise NotFoundError("there is no such conversation")
    return row


def _locked(query: Any) -> Any:
    # Only the conversation: the buyer's row is the lane's. SQLite has one writer and leaves this out.
    return query.with_for_update(of=conversations)


def name_of(connection: Connection, user_id: int | None) -> str | None:
    """Return a person's name, None for nobody."""
    if user_id is None:
        return None
    return connection.execute(select(users.c.name).where(users.c.id == user_id)).scalar()


def _in_shops(table: Table, user: User) -> ColumnElement[bool]:
    return table.c.shop_id.in_(user.shops) if user.shops else true()


def _serves(column: ColumnElement[Any], user: User) -> ColumnElement[bool]:
    return column.in_(user.groups) if user.groups else column != SUPERVISOR_GROUP
