"""People: who they are, what they may do, which groups and shops they serve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from app.core.clock import Clock
from app.core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from app.core.ids import Ids
from app.desk.audit import record
from app.desk.passwords import Passwords
from app.desk.permissions import PERMISSIONS, SUPERVISOR_GROUP, Permission, Role
from app.storage.database import Database, bump_revision
from app.storage.tables import groups, sessions, shops, users

__all__ = ["User", "UserService", "find_user", "group_ids", "user_from_row"]

MAX_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person. ``groups`` and ``shops`` are what was chosen; an empty choice means the default, see below."""

    id: int
    name: str
    display_name: str
    role: Role
    groups: tuple[str, ...] = ()
    shops: tuple[str, ...] = ()
    max_load: int = 8
    is_disabled: bool = False

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return permission in PERMISSIONS[self.role]

    def sees_shop(self, shop_id: str | None) -> bool:
        """Whether a shop is in scope; none chosen means every shop."""
        return shop_id is None or not self.shops or shop_id in self.shops

    def serves(self, group_id: str) -> bool:
        """Whether the person belongs to a group.

        Supervisors and admins always belong to ``supervisor``. An agent for whom no group was chosen serves every
        group but that one, so that a small shop needs no set-up.
        """
        if group_id in self.groups:
            return True
        if self.may(Permission.SUPERVISE):
            return group_id == SUPERVISOR_GROUP
        return not self.groups and group_id != SUPERVISOR_GROUP


def user_from_row(row: Mapping[Any, Any]) -> User:
    """Read a row of table ``users``."""
    return User(
        id=row["id"],
        name=row["name"],
        display_name=row["display_name"],
        role=Role(row["role"]),
        groups=tuple(json.loads(row["groups"])),
        shops=tuple(json.loads(row["shops"])),
        max_load=row["max_load"],
        is_disabled=bool(row["disabled"]),
    )


def find_user(connection: Connection, user_id: int) -> User | None:
    """Read one person by id."""
    row = connection.execute(select(users).where(users.c.id == user_id)).mappings().one_or_none()
    return None if row is None else user_from_row(row)


def group_ids(connection: Connection, user: User) -> list[str]:
    """Return the codes of the groups a person serves, sorted."""
    return sorted(row.id for row in connection.execute(select(groups.c.id)) if user.serves(row.id))


class UserService:
    """Adding and changing people. Every change is written to the audit table under ``actor``."""

    def __init__(self, database: Database, *, clock: Clock, ids: Ids, passwords: Passwords) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._passwords = passwords

    async def add(
        self,
        name: str,
        *,
        role: Role | str,
        password: str,
        groups: Sequence[str] = (),
        shops: Sequence[str] = (),
        max_load: int = 8,
        display_name: str | None = None,
        actor: str = "cli",
    ) -> User:
        """Make a person who can sign in.

        Raises:
            ConflictError: the name is taken.
            InvalidError: name, role, group, shop, load or password is not acceptable; ``errors`` names the field.
        """
        _check_name(name)
        _check_load(max_load)
        user = User(
            id=self._ids.next(),
            name=name,
            display_name=display_name or name,
            role=_role(role),
            groups=tuple(dict.fromkeys(groups)),
            shops=tuple(dict.fromkeys(shops)),
            max_load=max_load,
        )
        hashed = await self._passwords.hash(password)
        now = self._clock.now_ms()

        def store(connection: Connection) -> User:
            _check_known(connection, user.groups, user.shops)
            if connection.execute(select(users.c.id).where(users.c.name == name)).first():
                raise ConflictError(f"there is already a user named {name!r}", code="name_taken")
            connection.execute(
                insert(users),
                {
                    "id": user.id,
                    "name": user.name,
                    "display_name": user.display_name,
                    "password_hash": hashed,
                    "role": user.role.value,
                    "groups": json.dumps(user.groups),
                    "shops": json.dumps(user.shops),
                    "max_load": user.max_load,
                    "disabled": False,
                    "created_at_ms": now,
                    "updated_at_ms": now,
                },
            )
            bump_revision(connection, "users")
            record(connection, ids=self._ids, actor=actor, action="user.add", subject=name, at_ms=now,
                   detail={"role": user.role.value, "groups": user.groups, "shops": user.shops})  # fmt: skip
            return user

        return await self._database.write(store)

    async def list(self) -> list[User]:
        """Return everybody, by name."""
        return await self._database.read(
            lambda connection: [
                user_from_row(row)
                for row in connection.execute(select(users).order_by(users.c.name)).mappings()
            ]
        )

    async def find(self, user_id: int) -> User:
        """Return one person. Raises NotFoundError."""
        user = await self._database.read(lambda connection: find_user(connection, user_id))
        if user is None:
            raise NotFoundError("there is no such user")
        return user

    async def passwd(self, name: str, password: str, *, actor: str = "cli") -> None:
        """Set a new password and sign the person out everywhere. Raises NotFoundError, InvalidError."""
        hashed = await self._passwords.hash(password)
        now = self._clock.now_ms()

        def store(connection: Connection) -> None:
            user = _by_name(connection, name)
            connection.execute(
                update(users).where(users.c.id == user.id).values(password_hash=hashed, updated_at_ms=now)
            )
            connection.execute(delete(sessions).where(sessions.c.user_id == user.id))
            bump_revision(connection, "users")
            record(
                connection,
                ids=self._ids,
                actor=actor,
                action="user.passwd",
                subject=name,
                at_ms=now,
                detail={},
            )

        await self._database.write(store)

    async def disable(self, name: str, *, disabled: bool = True, actor: str = "cli") -> User:
        """Close (or open again) a person's access; closing signs them out everywhere. Raises NotFoundError."""
        user = await self._database.read(lambda connection: _by_name(connection, name))
        return await self.change(user.id, is_disabled=disabled, actor=actor)

    async def change(
        self,
        user_id: int,
        *,
        display_name: str | None = None,
        role: Role | str | None = None,
        groups: Sequence[str] | None = None,
        shops: Sequence[str] | None = None,
        max_load: int | None = None,
        is_disabled: bool | None = None,
        actor: str = "cli",
    ) -> User:
        """Change what is given; None leaves a field alone. Raises NotFoundError, InvalidError."""
        if max_load is not None:
            _check_load(max_load)
        now = self._clock.now_ms()
        values: dict[str, Any] = {}
        if display_name is not None:
            values["display_name"] = display_name
        if role is not None:
            values["role"] = _role(role).value
        if groups is not None:
            values["groups"] = json.dumps(list(dict.fromkeys(groups)))
        if shops is not None:
            values["shops"] = json.dumps(list(dict.fromkeys(shops)))
        if max_load is not None:
            values["max_load"] = max_load
        if is_disabled is not None:
            values["disabled"] = is_disabled

        def store(connection: Connection) -> User:
            _check_known(connection, groups or (), shops or ())
            changed = connection.execute(
                update(users).where(users.c.id == user_id).values(**values, updated_at_ms=now)
            ).rowcount
            user = find_user(connection, user_id)
            if not changed or user is None:
                raise NotFoundError("there is no such user")
            if is_disabled:
                connection.execute(delete(sessions).where(sessions.c.user_id == user_id))
            bump_revision(connection, "users")
            record(connection, ids=self._ids, actor=actor, action="user.change", subject=user.name, at_ms=now,
                   detail=values)  # fmt: skip
            return user

        return await self._database.write(store)


def _by_name(connection: Connection, name: str) -> User:
    row = connection.execute(select(users).where(users.c.name == name)).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"there is no user named {name!r}")
    return user_from_row(row)


def _role(role: Role | str) -> Role:
    try:
        return Role(role)
    except ValueError:
        fix = "one of admin, supervisor, agent"
        raise InvalidError(
            f"{role!r} is no role; choose {fix}", errors=[FieldProblem("role", "unknown role", fix)]
        ) from None


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME or name != name.strip() or not name.isprintable():
        fix = f"1 to {MAX_NAME} printable characters without spaces around"
        raise InvalidError(f"the name is not usable; {fix}", errors=[FieldProblem("name", "not usable", fix)])


def _check_load(max_load: int) -> None:
    if not 1 <= max_load <= 1000:
        raise InvalidError(
            "max_load must lie between 1 and 1000",
            errors=[FieldProblem("max_load", "out of range", "1 to 1000")],
        )


def _check_known(connection: Connection, chosen_groups: Sequence[str], chosen_shops: Sequence[str]) -> None:
    for field, table, chosen in (("groups", groups, chosen_groups), ("shops", shops, chosen_shops)):
        if not chosen:
            continue
        known = sorted(row.id for row in connection.execute(select(table.c.id)))
        missing = [code for code in chosen if code not in known]
        if missing:
            fix = f"known: {', '.join(known) or 'none yet'}"
            raise InvalidError(
                f"unknown in {field}: {', '.join(missing)}; {fix}",
                errors=[FieldProblem(field, "unknown", fix)],
            )
