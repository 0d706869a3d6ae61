"""Signing in and out."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from app.api.context import Caller, Services
from app.api.cookies import SESSION_COOKIE
from app.api.people import user_out
from app.api.schemas import SessionBody, SessionOut
from app.core.clock import rfc3339
from app.desk.auth import SESSION_SECONDS, csrf_of

__all__ = ["router"]

router = APIRouter(tags=["sessions"])


@router.post("/sessions", status_code=201, response_model=SessionOut, operation_id="signIn")
async def sign_in(body: SessionBody, request: Request, response: Response, api: Services) -> dict[str, Any]:
    """Sign in: a bearer token for scripts, with `cookie` a session cookie and its CSRF token for pages."""
    address = request.client.host if request.client else "unknown"
    signed_in = await api.sessions.sign_in(body.username, body.password, address=address, cookie=body.cookie)
    answer: dict[str, Any] = {
        "user": user_out(signed_in.user),
        "expires_at": rfc3339(signed_in.expires_at_ms),
    }
    if not body.cookie:
        return {**answer, "token": signed_in.token}
    response.set_cookie(
        SESSION_COOKIE,
        signed_in.token,
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="lax",
        secure=api.is_secure,
        path="/",
    )
    return {**answer, "csrf": signed_in.csrf}


@router.get("/sessions/me", response_model=SessionOut, operation_id="whoAmI")
async def who_am_i(principal: Caller, request: Request) -> dict[str, Any]:
    """Who is signed in; a page gets its CSRF token again."""
    answer: dict[str, Any] = {"user": user_out(principal.user) if principal.user else None}
    if principal.kind == "cookie":
        answer["csrf"] = csrf_of(request.cookies[SESSION_COOKIE])
    return answer | {"name": principal.name, "role": principal.role.value}


@router.delete("/sessions/me", status_code=204, operation_id="signOut")
async def sign_out(principal: Caller, response: Response, api: Services) -> None:
    """Sign out; sockets of this session close."""
    await api.sessions.sign_out(principal)
    response.delete_cookie(SESSION_COOKIE, path="/")


@router.delete("/sessions", status_code=204, operation_id="signOutHere", include_in_schema=False)
async def sign_out_here(principal: Caller, response: Response, api: Services) -> None:
    """The same at the address of the collection."""
    await sign_out(principal, response, api)
