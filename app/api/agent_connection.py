"""One agent's socket after its handshake: one frame at a time, never slower than the slowest reader.

Source: the contracts page, section 4; the reliability notes, F35–F38 and the bad inputs marked S.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.api.agent_commands import AgentCommands
from app.api.frame_queue import FrameQueue
from app.api.frames import CLIENT_FRAMES, ClientFrame, Hello
from app.api.handshake_limit import HandshakeLimit
from app.api.problems import field_problems
from app.api.socket_close import CloseCode, close, come_again
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
from app.desk.auth import Principal, SessionService
from app.desk.events import CONTROL_SESSION_ENDED, CONTROL_TAKEN_OVER
from app.desk.hub import EventHub
from app.desk.people import User, group_ids
from app.desk.presence import PresenceService
from app.desk.router import Router
from app.desk.wire import dumps
from app.storage.database import Database

__all__ = ["FRAMES_AT_ONCE", "FRAMES_PER_SECOND", "MAX_FRAME_BYTES", "AgentConnection", "SocketOffice"]

log = structlog.get_logger(__name__)

MAX_FRAME_BYTES = 64 * 1024
"""A reply has at most 4,000 characters; nobody needs more than this."""

FRAMES_PER_SECOND = 50.0
FRAMES_AT_ONCE = 300
"""A person can't; a script that works off a queue in a burst can."""

LOOK_AGAIN_SECONDS = 60.0
"""How often a socket's session is checked again; signing out takes effect by the event log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOffice:
    """What every socket of a process works with. ``take_over`` closes all of an agent's sockets but one."""

    database: Database
    sessions: SessionService
    hub: EventHub
    presence: PresenceService
    router: Router
    commands: AgentCommands
    clock: Clock
    limit: HandshakeLimit
    take_over: Callable[[AgentConnection], Awaitable[None]]


class AgentConnection:
    """One socket: a reader that works off frames in order, a writer, and a look at the session now and then."""

    def __init__(
        self, office: SocketOffice, websocket: WebSocket, principal: Principal, user: User, *, name: str
    ) -> None:
        """``websocket`` is accepted, ``principal`` whose it is; ``name`` tells this socket from all others."""
        self.user = user
        self.name = name
        self.watching: set[int] = set()
        self.session_hash = principal.session_hash
        self.ended = asyncio.Event()
        self._office = office
        self._websocket = websocket
        self._language = language_of(websocket.headers.get("accept-language"))
        self._queue = FrameQueue(websocket.send_text, on_overflow=self._too_slow)
        self._finished: asyncio.Future[tuple[int, str] | None] = asyncio.get_running_loop().create_future()
        self._is_greeted = False
        self._is_present = False
        self._tokens = float(FRAMES_AT_ONCE)
        self._filled_at = office.clock.monotonic()

    # What the hub sees

    def push(self, frame: str, size: int) -> None:
        """Have an event of ``size`` bytes sent."""
        self._queue.put(frame, size)

    async def room(self) -> None:
        """Wait until a reader that is behind has caught up."""
        await self._queue.room()

    def control(self, kind: str, data: Mapping[str, str]) -> None:
        """Hear what another process has decided about this person's sockets."""
        if kind == CONTROL_TAKEN_OVER and data["keep"] != self.name:
            self.taken_over()
        elif kind == CONTROL_SESSION_ENDED and data["session"] == self.session_hash:
            self.signed_out()

    # Life

    def taken_over(self) -> None:
        """Close it: the agent works elsewhere now."""
        self.finish(CloseCode.TAKEN_OVER, "taken over by another window")

    def signed_out(self) -> None:
        """Close it: its session has ended."""
        self.finish(CloseCode.SIGNED_OUT, "signed out")

    def finish(self, code: int, reason: str) -> None:
        """Have the socket closed."""
        if not self._finished.done():
            self._finished.set_result((code, reason))

    def _too_slow(self) -> None:
        self.finish(CloseCode.TOO_SLOW, "reading too slowly; connect again and resume")

    async def serve(self) -> None:
        """Work until the socket is closed, by whichever side."""
        tasks = [
            asyncio.create_task(self._read(), name="agent-reader"),
            asyncio.create_task(self._write(), name="agent-writer"),
            asyncio.create_task(self._watch_session(), name="agent-session"),
        ]
        try:
            closing = await self._finished
        finally:
            self._office.hub.unsubscribe(self)
            self._queue.shut()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.ended.set()
        if closing is not None:
            await close(self._websocket, *closing)
        if self._is_present:
            with contextlib.suppress(HuojiError):
                await self._office.presence.disconnected(self.user)

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
        now = self._office.clock.monotonic()
        self._tokens = min(FRAMES_AT_ONCE, self._tokens + (now - self._filled_at) * FRAMES_PER_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            self.finish(CloseCode.TOO_MANY, "too many frames")
            return False
        self._tokens -= 1
        return True

    async def _watch_session(self) -> None:
        while True:
            await self._office.clock.sleep(LOOK_AGAIN_SECONDS)
            await self.look_again()

    async def look_again(self) -> None:
        """Close the socket when its session has ended; else take over what its person may see now."""
        try:
            principal = await self._office.sessions.resolve_hash(self.session_hash)
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
        return await self._office.commands.table[frame.type](self.user, self.watching, data)

    async def _greet(self, frame_id: str, hello: Hello) -> None:
        office = self._office
        if hello.takeover:
            await office.take_over(self)
        # The stream's beginning is fixed before the state is read: what happens in between is told twice, never lost.
        resume = await office.hub.check(hello.resume_after)
        if hello.resume_after is None or resume.is_resync:
            # Before the agent counts as present, or what is offered to them because they came would be told twice.
            await office.router.repeat_offers(self.user)
        if not self._is_present:
            # Noted first: a hello that fails half-way may be said again.
            self._is_present = True
            await office.presence.connected(self.user)
        seat = await office.presence.seat(self.user)
        groups = await office.database.read(self._groups)
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
            await office.hub.subscribe(self, resume.seq)
        except UnavailableError:
            # The answer has left already; a stream that isn't there would be worse than a new connection.
            self.finish(CloseCode.RESTART, come_again("try again in a moment", office.limit.restart_wait(0)))

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
