"""Groups of agents; the four default ones exist from the first migration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from app.core.errors import FieldProblem, InvalidError, NotFoundError, StaleError
from app.core.ids import Ids
from app.desk.audit import record
from app.desk.people import find_user
from app.storage.database import bump_revision
from app.storage.tables import groups

__all__ = ["DEFAULT_GROUPS", "Group", "default_group_rows", "find_group", "list_groups", "set_leader"]

DEFAULT_GROUPS: Mapping[str, str] = {
    "presale": "售前",
    "aftersale": "售后",
    "vip": "贵宾",
    "supervisor": "主管",
}
"""Code to name. Source: the domain rules on groups, routing and load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of agents; its id is its code."""

    id: str
    name: str
    leader_id: int | None
    user_tiers: tuple[str, ...]
    sources: tuple[str, ...]
    version: int


def default_group_rows() -> list[dict[str, Any]]:
    """Return the rows of the default groups, as the first migration inserts them: without a leader."""
    return [{"id": code, "name": name} for code, name in DEFAULT_GROUPS.items()]


def list_groups(connection: Connection) -> list[Group]:
    """Return every group, by code."""
    return [_from_row(row) for row in connection.execute(select(groups).order_by(groups.c.id)).mappings()]


def find_group(connection: Connection, group_id: str) -> Group:
    """Return one group. Raises NotFoundError."""
    row = connection.execute(select(groups).where(groups.c.id == group_id)).mappings().one_or_none()
    if row is None:
        raise NotFoundError("there is no such group")
    return _from_row(row)


def set_leader(
    connection: Connection,
    group_id: str,
    leader_id: int | None,
    *,
    expected_version: int | None,
    ids: Ids,
    actor: str,
    now_ms: int,
) -> Group:
    """Make somebody the leader of a group they belong to.

    Raises:
        NotFoundError: no such group.
        InvalidError: no leader was given although the group has one, or the person doesn't serve the group.
        StaleError: ``expected_version`` (from If-Match) isn't the group's version any more.
    """
    group = find_group(connection, group_id)
    if expected_version is not None and expected_version != group.version:
        raise StaleError("the group was changed meanwhile; read it again", code="version_mismatch")
    if leader_id is None:
        problem = "a group must keep a leader; name somebody else instead"
        raise InvalidError(
            problem, errors=[FieldProblem("leader_id", "must not be empty", "another user's id")]
        )
    leader = find_user(connection, leader_id)
    if leader is None or leader.is_disabled or not leader.serves(group_id):
        problem = "the leader must be an active member of the group"
        raise InvalidError(problem, errors=[FieldProblem("leader_id", "no member", "a member's id")])
    connection.execute(
        update(groups).where(groups.c.id == group_id).values(leader_id=leader_id, version=group.version + 1)
    )
    bump_revision(connection, "users")
    record(connection, ids=ids, actor=actor, action="group.leader", subject=group_id, at_ms=now_ms,
           detail={"leader_id": str(leader_id)})  # fmt: skip
    return find_group(connection, group_id)


def _from_row(row: Mapping[Any, Any]) -> Group:
    return Group(
        id=row["id"],
        name=row["name"],
        leader_id=row["leader_id"],
        user_tiers=tuple(json.loads(row["user_tiers"])),
        sources=tuple(json.loads(row["sources"])),
        version=row["version"],
    )
