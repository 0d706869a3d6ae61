"""Sessions of people and tokens of scripts: opaque secrets of which only SHA-256 hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from app.core.clock import Clock
from app.core.errors import UnauthenticatedError
from app.core.ids import Ids
from app.desk.audit import record
from app.desk.events import CONTROL_SESSION_ENDED, append_events, control_event
from app.desk.login_limits import LoginLimits
from app.desk.passwords import Passwords, check_password_length
from app.desk.people import User, find_user, user_from_row
from app.desk.permissions import PERMISSIONS, Permission, Role
from app.storage.database import Database
from app.storage.tables import sessions, users

__all__ = ["Principal", "SessionService", "SignedIn", "TokenService", "csrf_of", "hash_token"]

SESSION_SECONDS = 12 * 3600
"""How long one sign-in lasts: a working day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who makes a request: a signed-in person, or a script (``user`` None) with a role. ``kind`` as in the table."""

    kind: str
    name: str
    role: Role
    session_hash: str
    user: User | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the role allows it."""
        return permission in PERMISSIONS[self.role]

    def scope(self) -> User:
        """Return the person, or for a script somebody of its role who sees every shop and holds nothing."""
        if self.user is not None:
            return self.user
        return User(id=0, name=self.name, display_name=self.name, role=self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A new session. ``token`` is shown once; ``csrf`` goes with a cookie session only."""

    token: str
    user: User
    csrf: str | None = None
    expires_at_ms: int


def hash_token(token: str) -> str:
    """Return what is stored of a token. It carries 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_of(token: str) -> str:
    """Return the CSRF token of a cookie session: derived, so that a page can ask for it again and none is stored."""
    return hashlib.sha256(b"huoji csrf\x00" + token.encode("utf-8", "surrogatepass")).hexdigest()


class SessionService:
    """Signing in and out, and finding out who is asking."""

    def __init__(
        self, database: Database, *, clock: Clock, ids: Ids, passwords: Passwords, limits: LoginLimits
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._passwords = passwords
        self._limits = limits
        self._on_revoked: list[Callable[[str], None]] = []

    def on_revoked(self, callback: Callable[[str], None]) -> None:
        """Have ``callback(session_hash)`` called when a session of this process ends by signing out."""
        self._on_revoked.append(callback)

    async def sign_in(self, name: str, password: str, *, address: str, cookie: bool = False) -> SignedIn:
        """Check a password and begin a session.

        Raises:
            UnauthenticatedError: wrong name or password, without saying which.
            RateLimitedError: too many wrong tries of this account or from this address.
            InvalidError: the password is longer than 1,024 bytes.
        """
        check_password_length(password)
        account = name[:256]
        await self._limits.begin(account, address)

        def find(connection: Connection) -> tuple[User, str | None] | None:
            row = connection.execute(select(users).where(users.c.name == account)).mappings().one_or_none()
            return None if row is None else (user_from_row(row), row["password_hash"])

        found = None if "\x00" in account else await self._database.read(find)
        is_right = await self._passwords.verify(found[1] if found else None, password)
        if found is None or not is_right or found[0].is_disabled:
            raise UnauthenticatedError("wrong name or password", code="credentials_wrong")
        user = found[0]
        token = self._ids.token()
        now = self._clock.now_ms()
        expires = now + SESSION_SECONDS * 1000

        def store(connection: Connection) -> None:
            self._limits.succeeded(connection, account, address)
            connection.execute(delete(sessions).where(sessions.c.expires_at_ms < now))
            connection.execute(
                insert(sessions),
                {
                    "token_hash": hash_token(token),
                    "kind": "cookie" if cookie else "bearer",
                    "user_id": user.id,
                    "created_at_ms": now,
                    "expires_at_ms": expires,
                },
            )
            record(connection, ids=self._ids, actor=user.name, action="session.start", subject=user.name, at_ms=now,
                   detail={"kind": "cookie" if cookie else "bearer"})  # fmt: skip

        await self._database.write(store)
        return SignedIn(
            token=token, user=user, csrf=csrf_of(token) if cookie else None, expires_at_ms=expires
        )

    async def resolve(
        self, token: str, *, kinds: frozenset[str] = frozenset({"bearer", "token"})
    ) -> Principal:
        """Return whose token this is; ``kinds`` are the kinds of session that may come this way.

        Raises:
            UnauthenticatedError: unknown, expired, or the person is disabled, without saying which.
        """
        principal = await self.resolve_hash(hash_token(token))
        if principal.kind not in kinds:
            raise _invalid()
        return principal

    async def resolve_hash(self, session_hash: str) -> Principal:
        """The same for a hash already known, to look again whether a session still holds."""
        now = self._clock.now_ms()

        def find(connection: Connection) -> Principal:
            row = (
                connection.execute(select(sessions).where(sessions.c.token_hash == session_hash))
                .mappings()
                .one_or_none()
            )
            if row is None or (row["expires_at_ms"] is not None and row["expires_at_ms"] <= now):
                raise _invalid()
            if row["user_id"] is None:
                return Principal(
                    kind=row["kind"], name=row["name"], role=Role(row["role"]), session_hash=session_hash
                )
            user = find_user(connection, row["user_id"])
            if user is None or user.is_disabled:
                raise _invalid()
            return Principal(
                kind=row["kind"], name=user.name, role=user.role, session_hash=session_hash, user=user
            )

        return await self._database.read(find)

    async def sign_out(self, principal: Principal) -> None:
        """End a session; its sockets are closed, at whichever process they are."""
        now = self._clock.now_ms()

        def store(connection: Connection) -> None:
            connection.execute(delete(sessions).where(sessions.c.token_hash == principal.session_hash))
            record(connection, ids=self._ids, actor=principal.name, action="session.end", subject=principal.name,
                   at_ms=now, detail={"kind": principal.kind})  # fmt: skip
            if principal.user is not None:
                ended = control_event(
                    CONTROL_SESSION_ENDED, {"session": principal.session_hash}, agent_id=principal.user.id, now_ms=now
                )  # fmt: skip
                append_events(connection, [ended])

        await self._database.write(store)
        for callback in self._on_revoked:
            callback(principal.session_hash)


class TokenService:
    """Tokens for scripts."""

    def __init__(self, database: Database, *, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids

    async def create(
        self, name: str, *, role: Role | str, expires_at_ms: int | None = None, actor: str = "cli"
    ) -> str:
        """Make a token and return it; it can't be shown again. ``expires_at_ms`` None: it lasts until removed."""
        token = "huoji_" + self._ids.token()
        now = self._clock.now_ms()
        chosen = Role(role)

        def store(connection: Connection) -> None:
            connection.execute(
                insert(sessions),
                {
                    "token_hash": hash_token(token),
                    "kind": "token",
                    "name": name,
                    "role": chosen.value,
                    "created_at_ms": now,
                    "expires_at_ms": expires_at_ms,
                },
            )
            record(connection, ids=self._ids, actor=actor, action="token.create", subject=name, at_ms=now,
                   detail={"role": chosen.value, "expires_at_ms": expires_at_ms})  # fmt: skip

        await self._database.write(store)
        return token


def is_csrf(token: str, given: str | None) -> bool:
    """Whether a request's CSRF header belongs to its cookie session."""
    return given is not None and hmac.compare_digest(csrf_of(token), given)


def _invalid() -> UnauthenticatedError:
    return UnauthenticatedError("sign in; the token is missing, wrong or expired")
