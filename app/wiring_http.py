"""Builds the part people talk to: the HTTP API, agents' sockets, health, and in a demo the sandbox.

Apart from ``app.wiring`` because FastAPI and its models take the better part of a second to import; a webhook that
arrives right after a restart needn't wait for them.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from app.api.agent_commands import AgentCommands
from app.api.agent_socket import AgentSockets
from app.api.context import ApiServices
from app.api.http import create_api
from app.desk.auth import SessionService
from app.desk.conversations import ConversationService
from app.desk.escalations import EscalationService
from app.desk.login_limits import LoginLimits
from app.desk.passwords import Passwords
from app.desk.people import UserService
from app.desk.sending import SendService
from app.knowledge.service import KnowledgeService
from app.replies.guard import check_agent_text
from app.shops.service import ShopService
from app.storage.time import shared_time

if TYPE_CHECKING:
    from app.sandbox.market import Market
    from app.wiring import Application

__all__ = ["HttpSide"]

Scope = MutableMapping[str, Any]


class HttpSide:
    """The API with its sockets, and the sandbox."""

    def __init__(self, application: Application) -> None:
        """Build on the services of ``application``. Call ``start`` once a loop runs."""
        self._application = application
        self.sockets = self._make_sockets()
        self.api: Any = create_api(self._services, self.sockets)
        self.sandbox: Starlette | None = None
        self._market: Market | None = None
        if application.is_demo:
            self._market, self.sandbox = self._make_sandbox()

    def _make_sockets(self) -> AgentSockets:
        app = self._application
        passwords = Passwords()
        sessions = SessionService(
            app.database,
            clock=app.clock,
            ids=app.ids,
            passwords=passwords,
            limits=LoginLimits(app.database, now_of=shared_time(app.clock)),
        )
        # Signing out is told to the other processes by the event log.
        sessions.on_revoked(lambda _session_hash: app.events_stored())
        conversations = ConversationService(app.desk, policy_of=app.directory.shop)
        escalations = EscalationService(app.desk)
        sending = SendService(app.desk, check_text=check_agent_text)
        public_url = app.settings.public_url
        self._services = ApiServices(
            database=app.database,
            clock=app.clock,
            ids=app.ids,
            users=UserService(app.database, clock=app.clock, ids=app.ids, passwords=passwords),
            sessions=sessions,
            conversations=conversations,
            escalations=escalations,
            sending=sending,
            knowledge=KnowledgeService(app.database, app.clock, app.ids),
            shops=ShopService(
                app.database,
                registry=app.registry,
                box=app.box,
                clock=app.clock,
                ids=app.ids,
                policy=app.addresses,
            ),
            on_replayed=app.replayed,
            is_secure=public_url is not None and public_url.startswith("https:"),
        )
        return AgentSockets(
            database=app.database,
            sessions=sessions,
            hub=app.hub,
            presence=app.presence,
            router=app.router,
            commands=AgentCommands(
                conversations=conversations, escalations=escalations, sending=sending, presence=app.presence
            ),
            clock=app.clock,
            ids=app.ids,
            metrics=app.metrics,
            allowed_origins=(public_url,) if public_url is not None else (),
            handshakes_per_second=app.settings.agent_handshakes,
        )

    def _make_sandbox(self) -> tuple[Market, Starlette]:
        # Only a demo has it, and only a demo pays for importing it.
        from app.sandbox.accounts import SANDBOX_SEATS
        from app.sandbox.catalogue import read_shops
        from app.sandbox.market import Market
        from app.sandbox.web import create_sandbox

        app = self._application
        market = Market(
            base_url=app.own_url,
            find_account=app.directory.account,
            seats=SANDBOX_SEATS,
            shops=read_shops(),
            client=app.client,
            clock=app.clock,
            ids=app.ids,
        )
        sandbox = create_sandbox(
            market=market,
            database=app.database,
            snapshot=lambda: app.knowledge.current.snapshot,
            shop=app.directory.shop,
        )
        return market, sandbox

    async def close_streams(self) -> None:
        """Tell every open stream to go, so that the server can end its connections."""
        if self._market is not None:
            self._market.close_streams()
        await self.sockets.close_all()

    async def recheck_sessions(self) -> None:
        """Look again whether the people behind open sockets may still be there."""
        await self.sockets.recheck()

    async def stop(self) -> None:
        """End what is under way."""
        if self._market is not None:
            await self._market.stop()
