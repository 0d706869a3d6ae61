"""Agents' sockets at ``/ws/agent``: all those of this process, from their handshakes to the server's stop.

Source: the contracts page, section 4; the reliability notes, F39.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.websockets import WebSocket

from app.api.agent_commands import AgentCommands
from app.api.agent_connection import AgentConnection, SocketOffice
from app.api.handshake_limit import HANDSHAKES_PER_SECOND, HandshakeLimit
from app.api.handshakes import Handshakes
from app.api.socket_close import CloseCode, come_again
from app.core.clock import Clock
from app.core.ids import Ids
from app.core.metrics import Metrics
from app.desk.auth import SessionService
from app.desk.hub import EventHub
from app.desk.presence import PresenceService
from app.desk.router import Router
from app.storage.database import Database

__all__ = ["AgentSockets"]


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
        handshakes_per_second: float = HANDSHAKES_PER_SECOND,
    ) -> None:
        """``allowed_origins``: besides the server's own; ``handshakes_per_second``: how many sockets may begin."""
        limit = HandshakeLimit(clock=clock, ids=ids, per_second=handshakes_per_second)
        self._office = SocketOffice(
            database=database,
            sessions=sessions,
            hub=hub,
            presence=presence,
            router=router,
            commands=commands,
            clock=clock,
            limit=limit,
            take_over=self._take_over,
        )
        self._handshakes = Handshakes(
            sessions=sessions, limit=limit, metrics=metrics, allowed_origins=allowed_origins
        )
        self._ids = ids
        self._metrics = metrics
        self._open: set[AgentConnection] = set()
        sessions.on_revoked(self._revoked)

    @property
    def count(self) -> int:
        """Open sockets."""
        return len(self._open)

    async def endpoint(self, websocket: WebSocket) -> None:
        """Serve one socket until it closes."""
        principal = await self._handshakes.let_in(websocket)
        if principal is None:
            return
        assert principal.user is not None
        agent_socket = AgentConnection(
            self._office, websocket, principal, principal.user, name=self._ids.token(9)
        )
        self._open.add(agent_socket)
        self._metrics.agents_connected.set(len(self._open))
        try:
            await agent_socket.serve()
        finally:
            self._open.discard(agent_socket)
            self._metrics.agents_connected.set(len(self._open))

    async def recheck(self) -> None:
        """Look at once whether every socket's session still holds, and what its person may see now."""
        await asyncio.gather(*(one.look_again() for one in list(self._open)))

    async def close_all(self) -> None:
        """Tell everybody that the server restarts, and wait until they are gone."""
        limit, sockets = self._office.limit, len(self._open)
        for one in list(self._open):
            # Each is told a moment of its own, or all of them would be back in the same one.
            one.finish(CloseCode.RESTART, come_again("the server restarts", limit.restart_wait(sockets)))
        if self._open:
            await asyncio.wait(
                [asyncio.ensure_future(one.ended.wait()) for one in list(self._open)], timeout=5
            )

    async def _take_over(self, kept: AgentConnection) -> None:
        # The agent's other sockets, at whichever process they are.
        for one in list(self._open):
            if one is not kept and one.user.id == kept.user.id:
                one.taken_over()
        await self._office.presence.take_over(kept.user, kept.name)

    def _revoked(self, session_hash: str) -> None:
        for one in list(self._open):
            if one.session_hash == session_hash:
                one.signed_out()
