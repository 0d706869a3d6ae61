"""The HTTP API over a desk on a real database, asked in-process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from fastapi import FastAPI

from app.api.agent_commands import AgentCommands
from app.api.agent_socket import AgentSockets
from app.api.context import ApiServices
from app.api.http import create_api
from app.channels.registry import Registry
from app.core.crypto import SecretBox
from app.desk.auth import SessionService, TokenService
from app.desk.login_limits import LoginLimits
from app.desk.people import User, UserService
from app.desk.permissions import Role
from app.knowledge.service import KnowledgeService
from app.shops.service import ShopService
from tests.desk_world import DeskWorld

PASSWORD = "correct horse battery"


class ApiWorld:
    """The services behind the API, the application, and clients that are signed in."""

    def __init__(self, desk: DeskWorld, *, is_secure: bool = False) -> None:
        self.desk = desk
        self.users = UserService(desk.database, clock=desk.clock, ids=desk.ids, passwords=desk.passwords)
        self.sessions = SessionService(
            desk.database,
            clock=desk.clock,
            ids=desk.ids,
            passwords=desk.passwords,
            limits=LoginLimits(desk.database, now_of=desk.now_of),
        )
        self.tokens = TokenService(desk.database, clock=desk.clock, ids=desk.ids)
        self.replayed: list[int] = []
        self.services = ApiServices(
            database=desk.database,
            clock=desk.clock,
            ids=desk.ids,
            users=self.users,
            sessions=self.sessions,
            conversations=desk.conversations,
            escalations=desk.escalations,
            sending=desk.sending,
            knowledge=KnowledgeService(desk.database, desk.clock, desk.ids),
            shops=ShopService(
                desk.database, registry=Registry(), box=SecretBox(bytes(32)), clock=desk.clock, ids=desk.ids
            ),
            on_replayed=self._replayed,
            is_secure=is_secure,
        )
        self.sockets = AgentSockets(
            database=desk.database,
            sessions=self.sessions,
            hub=desk.hub,
            presence=desk.presence,
            router=desk.router,
            commands=AgentCommands(
                conversations=desk.conversations,
                escalations=desk.escalations,
                sending=desk.sending,
                presence=desk.presence,
            ),
            clock=desk.clock,
            ids=desk.ids,
            metrics=desk.metrics,
            allowed_origins=["https://desk.example.com"],
        )
        self.app: FastAPI = create_api(self.services, self.sockets)

    async def _replayed(self, outbox_id: int) -> None:
        self.replayed.append(outbox_id)

    async def add(self, name: str, role: Role = Role.AGENT, **values: Any) -> User:
        """Add somebody with the password of all tests."""
        return await self.users.add(name, role=role, password=PASSWORD, **values)

    async def token(self, name: str) -> str:
        """Sign somebody in for a script."""
        return (await self.sessions.sign_in(name, PASSWORD, address="10.0.0.1")).token

    def client(self, token: str | None = None, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
        """Return a client, signed in with a token."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://huoji.test", headers=sent)

    async def as_person(
        self, name: str, role: Role = Role.AGENT, **values: Any
    ) -> tuple[User, httpx.AsyncClient]:
        """Add somebody and return a client for them."""
        user = await self.add(name, role, **values)
        return user, self.client(await self.token(name))
