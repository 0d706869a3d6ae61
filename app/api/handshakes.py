"""Who may open an agent's socket: origin, limit, session, in this order; only the last asks the database.

Source: the contracts page, section 4; the reliability notes, F39.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.websockets import WebSocket

from app.api.cookies import SESSION_COOKIE
from app.api.handshake_limit import HandshakeLimit
from app.api.socket_close import CloseCode, close, come_again
from app.core.errors import UnauthenticatedError, UnavailableError
from app.core.metrics import Metrics
from app.desk.auth import Principal, SessionService

__all__ = ["Handshakes"]


class Handshakes:
    """The beginning of every agent's socket."""

    def __init__(
        self,
        *,
        sessions: SessionService,
        limit: HandshakeLimit,
        metrics: Metrics,
        allowed_origins: Collection[str] = (),
    ) -> None:
        """``allowed_origins``: besides the server's own, e.g. ``https://desk.example.com``."""
        self._sessions = sessions
        self._limit = limit
        self._metrics = metrics
        self._allowed_origins = frozenset(allowed_origins)

    async def let_in(self, websocket: WebSocket) -> Principal | None:
        """Accept the socket and return whose it is; None: it was turned away and is closed."""
        authorization = websocket.headers.get("authorization", "")
        has_bearer = authorization[:7].lower() == "bearer "
        if not has_bearer and not self._may_use_cookie(websocket.headers):
            # Before the socket is accepted this is an HTTP 403.
            await websocket.close()
            return None
        token = authorization[7:].strip() if has_bearer else websocket.cookies.get(SESSION_COOKIE, "")
        wait = self._limit.begin()
        if wait is not None:
            self._metrics.handshakes_refused.inc()
            await _refuse(websocket, CloseCode.TRY_LATER, come_again("too many at once", wait))
            return None
        try:
            principal = await self._sessions.resolve(
                token, kinds=frozenset({"bearer"}) if has_bearer else frozenset({"cookie"})
            )
        except UnauthenticatedError:
            await _refuse(websocket, CloseCode.SIGNED_OUT, "sign in first")
            return None
        except UnavailableError:
            reason = come_again("try again in a moment", self._limit.restart_wait(0))
            await _refuse(websocket, CloseCode.RESTART, reason)
            return None
        finally:
            self._limit.end()
        await websocket.accept()
        return principal

    def _may_use_cookie(self, headers: Mapping[str, str]) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # Browsers always send one; a script without a token has no business with the cookie either.
            return SESSION_COOKIE not in headers.get("cookie", "")
        if origin in self._allowed_origins:
            return True
        return bool(origin) and urlsplit(origin).netloc == headers.get("host")


async def _refuse(websocket: WebSocket, code: int, reason: str) -> None:
    # Accepted first: pages are shown code and reason of a close, and nothing of a handshake that fails.
    await websocket.accept()
    await close(websocket, code, reason)
