"""Around every request of the API: a request id, a cap on the body, and headers that browsers act on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ApiEnvelope"]

MAX_BODY = 1024 * 1024

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class ApiEnvelope:
    """ASGI middleware of the HTTP API."""

    def __init__(self, app: ASGIApp, *, make_id: Callable[[], str], is_secure: bool = False) -> None:
        """``make_id`` names a request; ``is_secure`` adds HSTS."""
        self._app = app
        self._make_id = make_id
        self._headers = dict(_HEADERS)
        if is_secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._make_id()
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY:
                raise HTTPException(413, f"the body may have at most {MAX_BODY} bytes")
            return message

        async def decorated(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, limited, decorated)
