"""What every route has at hand: the services, who asks, and small helpers for ids, cursors and versions."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Query, Request

from app.api.cookies import CSRF_HEADER, SESSION_COOKIE
from app.api.frames import parse_id
from app.core.clock import Clock
from app.core.errors import ForbiddenError, HuojiError, NotFoundError, UnauthenticatedError
from app.core.ids import Ids
from app.desk.auth import Principal, SessionService, is_csrf
from app.desk.conversations import ConversationService
from app.desk.escalations import EscalationService
from app.desk.people import User, UserService
from app.desk.permissions import Permission
from app.desk.sending import SendService
from app.knowledge.service import KnowledgeService
from app.shops.service import ShopService
from app.storage.database import Database

__all__ = [
    "MAX_LIMIT",
    "ApiServices",
    "Caller",
    "Cursor",
    "Limit",
    "Services",
    "as_id",
    "caller",
    "cut_page",
    "expected_version",
    "need",
    "person",
    "read_cursor",
]

MAX_LIMIT = 200

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Everything the HTTP API calls. ``on_replayed`` is told the outbox id of a delivery put back on its way."""

    database: Database
    clock: Clock
    ids: Ids
    users: UserService
    sessions: SessionService
    conversations: ConversationService
    escalations: EscalationService
    sending: SendService
    knowledge: KnowledgeService
    shops: ShopService
    on_replayed: Callable[[int], Awaitable[None]]
    is_secure: bool = False
    """Whether people reach us by https, so that the cookie may be marked Secure."""


def services(request: Request) -> ApiServices:
    """Return the services of the application that serves a request."""
    return request.app.state.services


Services = Annotated[ApiServices, Depends(services)]


async def caller(request: Request, api: Services) -> Principal:
    """Find out who asks: a bearer token, or the session cookie with its CSRF token on writes.

    Raises:
        UnauthenticatedError: nobody, or no longer signed in.
        ForbiddenError: ``csrf_invalid``.
    """
    authorization = request.headers.get("authorization", "")
    if authorization[:7].lower() == "bearer ":
        return await api.sessions.resolve(authorization[7:].strip())
    token = request.cookies.get(SESSION_COOKIE)
    if not token:
        raise UnauthenticatedError("sign in first: POST /api/v1/sessions")
    principal = await api.sessions.resolve(token, kinds=frozenset({"cookie"}))
    if request.method not in SAFE_METHODS and not is_csrf(token, request.headers.get(CSRF_HEADER)):
        raise ForbiddenError("the CSRF token is missing or wrong", code="csrf_invalid")
    return principal


Caller = Annotated[Principal, Depends(caller)]


def need(permission: Permission) -> Any:
    """Return the dependency that lets through whoever has a permission. Raises ForbiddenError for others."""

    async def check(principal: Caller) -> Principal:
        if not principal.may(permission):
            raise ForbiddenError(f"this needs the permission {permission.value}")
        return principal

    return Depends(check)


def person(principal: Principal) -> User:
    """Return who acts in a conversation. Raises ForbiddenError for a script, which can hold none."""
    if principal.user is None:
        raise ForbiddenError("a script's token can't hold conversations; sign in as a person")
    return principal.user


def as_id(text: str) -> int:
    """Read an id from an address. Raises NotFoundError for what can't be one."""
    number = parse_id(text)
    if not isinstance(number, int) or number == 0:
        raise NotFoundError("there is no such thing")
    return number


Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the part before.")]


class _CursorError(HuojiError):
    status, default_code = 400, "cursor_invalid"


def read_cursor(cursor: str | None, size: int) -> list[int] | None:
    """Read a cursor of ``size`` numbers. Raises an error ``cursor_invalid`` when it isn't one of ours."""
    if cursor is None:
        return None
    try:
        values: Any = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (ValueError, binascii.Error, RecursionError):
        values = None
    if isinstance(values, list):
        numbers = [one for one in cast("list[Any]", values) if type(one) is int and 0 <= one < 2**63]
        if len(numbers) == size:
            return numbers
    raise _CursorError("the cursor is not valid; use `next` of the part before as it is")


def cut_page(
    rows: Sequence[Any], limit: int, position: Callable[[Any], list[int]], shape: Callable[[Any], Any]
) -> dict[str, Any]:
    """Make a list's part of up to ``limit + 1`` rows; ``position`` gives a row's cursor numbers."""
    cursor = None
    if len(rows) > limit:
        cursor = base64.urlsafe_b64encode(json.dumps(position(rows[limit - 1])).encode()).decode()
    return {"items": [shape(row) for row in rows[:limit]], "next": cursor}


def expected_version(request: Request) -> int | None:
    """Return the version that If-Match names, None when there is no such header. A foreign tag matches nothing."""
    tag = request.headers.get("if-match")
    if tag is None:
        return None
    bare = tag.strip().removeprefix("W/").strip('"')
    return int(bare) if bare.isascii() and bare.isdigit() and len(bare) < 10 else -1
