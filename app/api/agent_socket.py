"""Agents' sockets at ``/ws/agent``: signed in by the handshake, one frame at a time, never slower than the slowest reader.

Source: the contracts page, section 4; the reliability notes, F35–F39 and the bad inputs marked S.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.api.agent_commands import AgentCommands
from app.api.cookies import SESSION_COOKIE
from app.api.frame_queue import FrameQueue
from app.api.frames import CLIENT_FRAMES, ClientFrame, Hello
from app.api.problems import field_problems
from app.api.texts import describe, language_of
from app.core.clock import Clock
from app.core.errors import (
    ConflictError,
    FieldProblem,
    HuojiError,
    InvalidError,
    UnauthenticatedError,
    UnavailableError,
)
from app.core.ids import Ids
from app.core.metrics import Metrics
from app.desk.auth import Principal, SessionService
from app.desk.events import CONTROL_SESSION_ENDED, CONTROL_TAKEN_OVER
from app.desk.hub import EventHub
from app.desk.people import User, group_ids
from app.desk.presence import PresenceService
from app.desk.router import Router
from app.desk.wire import dumps
from app.storage.database import Database

__all__ = ["AgentSockets", "CloseCode"]

log = structlog.get_logger(__name__)

MAX_FRAME_BYTES = 64 * 1024
"""A reply has at most 4,000 characters; nobody needs more than this."""

FRAMES_PER_SECOND = 50.0
FRAMES_AT_ONCE = 300
"""A person can't; a script that works off a queue in a burst can."""

LOOK_AGAIN_SECONDS = 60.0
"""How often a socket's session is checked again; signing out takes effect by the event log."""

CLOSE_SECONDS = 2.0


class CloseCode:
    """Why a socket is closed. Source: the contracts page, section 4, and RFC 6455."""

    RESTART = 1012
    TOO_MANY = 1008
    TOO_BIG = 1009
    SIGNED_OUT = 4401
    TOO_SLOW = 4408
    TAKEN_OVER = 4409


class AgentSockets:
    """Every agent's socket of this process; ``endpoint`` is the Starlette endpoint."""

    def __init__(
        self,
        *,
        database: Database,
        sessions: SessionService,
        hub: EventHub,
        presence: PresenceService,
        router: Router,
        commands: AgentCommands,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        allowed_origins: Collection[str] = (),
    ) -> None:
        """``allowed_origins``: besides the server's own, e.g. ``https://desk.example.com``."""
        self.database = database
        self.sessions = sessions
        self.hub = hub
        self.presence = presence
        self.router = router
        self.commands = commands
        self.clock = clock
        self.ids = ids
        self._metrics = metrics
        self._allowed_origins = frozenset(allowed_origins)
        self._open: set[_AgentSocket] = set()
        sessions.on_revoked(self._revoked)

    @property
    def count(self) -> int:
        """Open sockets."""
        return len(self._open)

    async def endpoint(self, websocket: WebSocket) -> None:
        """Serve one socket until it closes."""
        authorization = websocket.headers.get("authorization", "")
        has_bearer = authorization[:7].lower() == "bearer "
        if not has_bearer and not self._may_use_cookie(websocket.headers):
            # Before the socket is accepted this is an HTTP 403.
            await websocket.close()
            return
        token = authorization[7:].strip() if has_bearer else websocket.cookies.get(SESSION_COOKIE, "")
        try:
            principal = await self.sessions.resolve(
                token, kinds=frozenset({"bearer"}) if has_bearer else frozenset({"cookie"})
            )
        except UnauthenticatedError:
            await websocket.accept()
            await _close(websocket, CloseCode.SIGNED_OUT, "sign in first")
            return
        except UnavailableError:
            await websocket.accept()
            await _close(websocket, CloseCode.RESTART, "try again in a moment")
            return
        assert principal.user is not None
        await websocket.accept()
        agent_socket = _AgentSocket(self, websocket, principal, principal.user, name=self.ids.token(9))
        self._open.add(agent_socket)
        self._metrics.agents_connected.set(len(self._open))
        try:
            await agent_socket.serve()
        finally:
            self._open.discard(agent_socket)
            self._metrics.agents_connected.set(len(self._open))

    async def take_over(self, kept: _AgentSocket) -> None:
        """Close an agent's other sockets, at whichever process they are."""
        for one in list(self._open):
            if one is not kept and one.user.id == kept.user.id:
                one.taken_over()
        await self.presence.take_over(kept.user, kept.name)

    async def recheck(self) -> None:
        """Look at once whether every socket's session still holds, and what its person may see now."""
        await asyncio.gather(*(one.look_again() for one in list(self._open)))

    async def close_all(self) -> None:
        """Tell everybody that the server restarts, and wait until they are gone."""
        for one in list(self._open):
            one.finish(CloseCode.RESTART, "the server restarts; connect again")
        if self._open:
            await asyncio.wait(
                [asyncio.ensure_future(one.ended.wait()) for one in list(self._open)], timeout=5
            )

    def _may_use_cookie(self, headers: Mapping[str, str]) -> bool:
        origin = headers.get("origin")
        if origin is None:
            # Browsers always send one; a script without a token has no business with the cookie either.
            return SESSION_COOKIE not in headers.get("cookie", "")
        if origin in self._allowed_origins:
            return True
        return bool(origin) and urlsplit(origin).netloc == headers.get("host")

    def _revoked(self, session_hash: str) -> None:
        for one in list(self._open):
            if one.session_hash == session_hash:
                one.signed_out()


class _AgentSocket:
    """One socket: a reader that works off frames in order, a writer, and a look at the session now and then."""

    def __init__(
        self, sockets: AgentSockets, websocket: WebSocket, principal: Principal, user: User, *, name: str
    ) -> None:
        self.user = user
        self.name = name
        self.watching: set[int] = set()
        self.session_hash = principal.session_hash
        self.ended = asyncio.Event()
        self._sockets = sockets
        self._websocket = websocket
        self._language = language_of(websocket.headers.get("accept-language"))
        self._queue = FrameQueue(websocket.send_text, on_overflow=self._too_slow)
        self._finished: asyncio.Future[tuple[int, str] | None] = asyncio.get_running_loop().create_future()
        self._is_greeted = False
        self._is_present = False
        self._tokens = float(FRAMES_AT_ONCE)
        self._filled_at = sockets.clock.monotonic()

    # What the hub sees

    def push(self, frame: str, size: int) -> None:
        self._queue.put(frame, size)

    async def room(self) -> None:
        await self._queue.room()

    def control(self, kind: str, data: Mapping[str, str]) -> None:
        if kind == CONTROL_TAKEN_OVER and data["keep"] != self.name:
            self.taken_over()
        elif kind == CONTROL_SESSION_ENDED and data["session"] == self.session_hash:
            self.signed_out()

    # Life

    def taken_over(self) -> None:
        self.finish(CloseCode.TAKEN_OVER, "taken over by another window")

    def signed_out(self) -> None:
        self.finish(CloseCode.SIGNED_OUT, "signed out")

    def finish(self, code: int, reason: str) -> None:
        """Have the socket closed."""
        if not self._finished.done():
            self._finished.set_result((code, reason))

    def _too_slow(self) -> None:
        self.finish(CloseCode.TOO_SLOW, "reading too slowly; connect again and resume")

    async def serve(self) -> None:
        tasks = [
            asyncio.create_task(self._read(), name="agent-reader"),
            asyncio.create_task(self._write(), name="agent-writer"),
            asyncio.create_task(self._watch_session(), name="agent-session"),
        ]
        try:
            closing = await self._finished
        finally:
            self._sockets.hub.unsubscribe(self)
            self._queue.shut()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.ended.set()
        if closing is not None:
            await _close(self._websocket, *closing)
        if self._is_present:
            with contextlib.suppress(HuojiError):
                await self._sockets.presence.disconnected(self.user)

    async def _write(self) -> None:
        try:
            await self._queue.write()
        except (WebSocketDisconnect, RuntimeError, OSError):
            self._gone()

    async def _read(self) -> None:
        while True:
            try:
                event = await self._websocket.receive()
            except (RuntimeError, OSError):
                self._gone()
                return
            if event["type"] == "websocket.disconnect":
                self._gone()
                return
            raw: str | bytes = event.get("text") or event.get("bytes") or ""
            if not self._may_take(raw):
                return
            await self._take(raw)

    def _gone(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def _may_take(self, raw: str | bytes) -> bool:
        if len(raw) > MAX_FRAME_BYTES:
            self.finish(CloseCode.TOO_BIG, "the frame is too big")
            return False
        now = self._sockets.clock.monotonic()
        self._tokens = min(FRAMES_AT_ONCE, self._tokens + (now - self._filled_at) * FRAMES_PER_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            self.finish(CloseCode.TOO_MANY, "too many frames")
            return False
        self._tokens -= 1
        return True

    async def _watch_session(self) -> None:
        while True:
            await self._sockets.clock.sleep(LOOK_AGAIN_SECONDS)
            await self.look_again()

    async def look_again(self) -> None:
        """Close the socket when its session has ended; else take over what its person may see now."""
        try:
            principal = await self._sockets.sessions.resolve_hash(self.session_hash)
        except UnauthenticatedError:
            self.finish(CloseCode.SIGNED_OUT, "no longer signed in")
        except UnavailableError:
            # Not knowing is no reason to throw people out.
            return
        else:
            if principal.user is not None:
                self.user = principal.user

    # Frames

    async def _take(self, raw: str | bytes) -> None:
        frame_id: str | None = None
        try:
            frame = _parse(raw)
            frame_id = frame.id
            data = await self._act(frame)
        except HuojiError as error:
            self._answer(frame_id, "error", _error_data(error, self._language))
        except Exception:
            log.exception("desk.frame_failed")
            self._answer(
                frame_id, "error", _error_data(HuojiError("something went wrong here"), self._language)
            )
        else:
            if data is not None:
                self._answer(frame_id, "ok", data)

    async def _act(self, frame: ClientFrame) -> dict[str, Any] | None:
        model = CLIENT_FRAMES.get(frame.type)
        if model is None:
            raise InvalidError(f"there is no frame type {frame.type!r}", code="unknown_type")
        try:
            data = model.model_validate(frame.data)
        except ValidationError as error:
            problems = field_problems(error.errors(), model=model, prefix="data.")
            raise InvalidError(
                "the frame's data is not valid", code="frame_invalid", errors=problems
            ) from None
        if isinstance(data, Hello):
            if self._is_greeted:
                raise ConflictError("hello was said already", code="hello_again")
            await self._greet(frame.id, data)
            return None
        if not self._is_greeted:
            raise ConflictError("say hello first", code="hello_first")
        return await self._sockets.commands.table[frame.type](self.user, self.watching, data)

    async def _greet(self, frame_id: str, hello: Hello) -> None:
        sockets = self._sockets
        if hello.takeover:
            await sockets.take_over(self)
        # The stream's beginning is fixed before the state is read: what happens in between is told twice, never lost.
        resume = await sockets.hub.check(hello.resume_after)
        if hello.resume_after is None or resume.is_resync:
            # Before the agent counts as present, or what is offered to them because they came would be told twice.
            await sockets.router.repeat_offers(self.user)
        if not self._is_present:
            # Noted first: a hello that fails half-way may be said again.
            self._is_present = True
            await sockets.presence.connected(self.user)
        seat = await sockets.presence.seat(self.user)
        groups = await sockets.database.read(self._groups)
        self._answer(
            frame_id,
            "ok",
            {
                "agent": {
                    "id": str(self.user.id),
                    "name": self.user.name,
                    "display_name": self.user.display_name,
                    "role": self.user.role.value,
                },
                "groups": groups,
                "load": seat.load,
                "max_load": self.user.max_load,
                "status": seat.status.value,
                "reason": seat.reason,
                "conversations": seat.conversations,
                "seq": resume.seq,
            },
        )
        if resume.is_resync:
            self._put({"seq": resume.seq, "type": "resync", "data": {}})
        self._is_greeted = True
        try:
            await sockets.hub.subscribe(self, resume.seq)
        except UnavailableError:
            # The answer has left already; a stream that isn't there would be worse than a new connection.
            self.finish(CloseCode.RESTART, "try again in a moment")

    def _groups(self, connection: Connection) -> list[str]:
        return group_ids(connection, self.user)

    def _answer(self, frame_id: str | None, kind: str, data: Mapping[str, Any]) -> None:
        self._put({"re": frame_id, "type": kind, "data": data})

    def _put(self, frame: Mapping[str, Any]) -> None:
        text = dumps(frame)
        self._queue.put(text, len(text.encode()))


def _parse(raw: str | bytes) -> ClientFrame:
    try:
        return ClientFrame.model_validate_json(raw)
    except ValidationError as error:
        problems = field_problems(error.errors(), model=ClientFrame)
        raise InvalidError("the frame is not valid", code="frame_invalid", errors=problems) from None


def _error_data(error: HuojiError, language: str) -> dict[str, Any]:
    title, detail = describe(error, language)
    data: dict[str, Any] = {"code": error.code, "message": detail or title}
    if isinstance(error, ConflictError) and error.by is not None:
        data["by"] = error.by
    if error.errors:
        data["errors"] = [_problem(problem) for problem in error.errors]
    if error.retry_after is not None:
        data["retry_after"] = error.retry_after
    return data


def _problem(problem: FieldProblem) -> dict[str, str]:
    return {"field": problem.field, "message": problem.message, "fix": problem.fix}


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    # A reader that stopped may block the close frame too; the server cuts the connection when this returns.
    with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason)
