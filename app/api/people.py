"""People and groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection, select

from app.api.context import (
    Caller,
    Cursor,
    Limit,
    Services,
    as_id,
    cut_page,
    expected_version,
    need,
    read_cursor,
)
from app.api.once import IdempotencyKey, once
from app.api.schemas import GroupOut, GroupPatch, Page, UserBody, UserOut, UserPatch
from app.core.errors import ForbiddenError
from app.desk.groups import Group, find_group, list_groups, set_leader
from app.desk.people import User, user_from_row
from app.desk.permissions import Permission
from app.storage.tables import users

__all__ = ["router", "user_out"]

router = APIRouter(tags=["people"])


def user_out(user: User) -> dict[str, Any]:
    """Return a person as the API gives them: never anything about the password."""
    return {
        "id": str(user.id),
        "name": user.name,
        "display_name": user.display_name,
        "role": user.role.value,
        "groups": list(user.groups),
        "shops": list(user.shops),
        "max_load": user.max_load,
        "disabled": user.is_disabled,
    }


@router.get(
    "/users", response_model=Page[UserOut], operation_id="listUsers", dependencies=[need(Permission.READ_ALL)]
)
async def list_users(api: Services, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """Everybody, the oldest first."""
    after = read_cursor(cursor, 1)
    query = select(users).where(users.c.id > (after[0] if after else 0)).order_by(users.c.id).limit(limit + 1)
    rows = await api.database.read(lambda connection: connection.execute(query).mappings().all())
    return cut_page(rows, limit, lambda row: [row["id"]], lambda row: user_out(user_from_row(row)))


@router.post(
    "/users", status_code=201, response_model=UserOut, operation_id="addUser",
    dependencies=[need(Permission.EDIT_PEOPLE)],
)  # fmt: skip
async def add_user(body: UserBody, principal: Caller, api: Services, key: IdempotencyKey = None) -> Any:
    """Add somebody who can sign in."""

    async def add() -> dict[str, Any]:
        user = await api.users.add(
            body.name,
            role=body.role,
            password=body.password,
            groups=body.groups,
            shops=body.shops,
            max_load=body.max_load,
            display_name=body.display_name,
            actor=principal.name,
        )
        return user_out(user)

    return await once(api, principal, "users", key, add)


@router.get(
    "/users/{user_id}",
    response_model=UserOut,
    operation_id="getUser",
    dependencies=[need(Permission.READ_ALL)],
)
async def get_user(user_id: str, api: Services) -> dict[str, Any]:
    """One person."""
    return user_out(await api.users.find(as_id(user_id)))


@router.patch(
    "/users/{user_id}", response_model=UserOut, operation_id="changeUser",
    dependencies=[need(Permission.EDIT_PEOPLE)],
)  # fmt: skip
async def change_user(user_id: str, body: UserPatch, principal: Caller, api: Services) -> dict[str, Any]:
    """Change somebody; disabling and a new password sign them out everywhere."""
    before = await api.users.find(as_id(user_id))
    if (
        principal.user is not None
        and principal.user.id == before.id
        and (body.disabled or body.role not in (None, "admin"))
    ):
        raise ForbiddenError("you can't take your own access away; ask another admin")
    user = await api.users.change(
        before.id,
        display_name=body.display_name,
        role=body.role,
        groups=body.groups,
        shops=body.shops,
        max_load=body.max_load,
        is_disabled=body.disabled,
        actor=principal.name,
    )
    if body.password is not None:
        await api.users.passwd(before.name, body.password, actor=principal.name)
    return user_out(user)


@router.get("/groups", response_model=Page[GroupOut], operation_id="listGroups")
async def list_all_groups(api: Services, principal: Caller) -> dict[str, Any]:
    """Every group with its members."""

    def look(connection: Connection) -> list[dict[str, Any]]:
        people = _active(connection)
        return [group_out(group, people) for group in list_groups(connection)]

    return {"items": await api.database.read(look), "next": None}


@router.get("/groups/{group_id}", response_model=GroupOut, operation_id="getGroup")
async def get_group(group_id: str, response: Response, api: Services, principal: Caller) -> dict[str, Any]:
    """One group; its ETag goes into If-Match of a change."""
    found = await api.database.read(
        lambda connection: group_out(find_group(connection, group_id), _active(connection))
    )  # fmt: skip
    response.headers["ETag"] = f'"{found["version"]}"'
    return found


@router.patch(
    "/groups/{group_id}", response_model=GroupOut, operation_id="changeGroup",
    dependencies=[need(Permission.EDIT_PEOPLE)],
)  # fmt: skip
async def change_group(
    group_id: str, body: GroupPatch, request: Request, response: Response, principal: Caller, api: Services
) -> dict[str, Any]:
    """Name a group's leader."""

    def change(connection: Connection) -> dict[str, Any]:
        group = set_leader(
            connection, group_id, body.leader_id, expected_version=expected_version(request), ids=api.ids,
            actor=principal.name, now_ms=api.clock.now_ms(),
        )  # fmt: skip
        return group_out(group, _active(connection))

    changed = await api.database.write(change)
    response.headers["ETag"] = f'"{changed["version"]}"'
    return changed


def group_out(group: Group, people: Sequence[User]) -> dict[str, Any]:
    """Return a group as the API gives it, with the ids of whoever serves it."""
    return {
        "id": group.id,
        "name": group.name,
        "leader_id": None if group.leader_id is None else str(group.leader_id),
        "user_tiers": list(group.user_tiers),
        "sources": list(group.sources),
        "members": [str(user.id) for user in people if user.serves(group.id)],
        "version": group.version,
    }


def _active(connection: Connection) -> list[User]:
    rows = connection.execute(
        select(users).where(users.c.disabled.is_(False)).order_by(users.c.id)
    ).mappings()
    return [user_from_row(row) for row in rows]
