"""What a command needs that works on the database: settings, the open database, services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from app.cli.output import note
from app.core.clock import SystemClock
from app.core.ids import SystemIds
from app.core.logging import configure_logging
from app.core.metrics import Metrics
from app.settings import Settings, load_secret_key, load_settings
from app.storage import schema
from app.storage.database import Database

if TYPE_CHECKING:
    from app.channels.registry import Registry
    from app.core.crypto import SecretBox
    from app.desk.auth import TokenService
    from app.desk.people import UserService
    from app.knowledge.service import KnowledgeService
    from app.shops.service import ShopService

__all__ = ["Session", "in_session", "open_session"]

T = TypeVar("T")


@dataclass(frozen=True)
class Session:
    """An open database and the services over it, each made, and its code imported, when it is first asked for."""

    settings: Settings
    database: Database
    clock: SystemClock
    ids: SystemIds

    @cached_property
    def box(self) -> SecretBox:
        """What seals secrets; says so when a key for development was made."""
        from app.core.crypto import SecretBox

        key = load_secret_key(self.settings, self.ids)
        if key.warning is not None:
            note(f"未设置 HUOJI_SECRET_KEY：已生成开发用密钥 {key.file}，请与数据库一起保管", key.warning)
        return SecretBox(key.value)

    @cached_property
    def registry(self) -> Registry:
        """The channels."""
        from app.channels.registry import Registry

        return Registry()

    @cached_property
    def shops(self) -> ShopService:
        """Shops and accounts."""
        from app.channels.addresses import AddressPolicy
        from app.shops.service import ShopService

        return ShopService(
            self.database,
            registry=self.registry,
            box=self.box,
            clock=self.clock,
            ids=self.ids,
            policy=AddressPolicy.parse(self.settings.allowed_private_hosts),
        )

    @cached_property
    def users(self) -> UserService:
        """People."""
        from app.desk.passwords import Passwords
        from app.desk.people import UserService

        return UserService(self.database, clock=self.clock, ids=self.ids, passwords=Passwords())

    @cached_property
    def tokens(self) -> TokenService:
        """Scripts' tokens."""
        from app.desk.auth import TokenService

        return TokenService(self.database, clock=self.clock, ids=self.ids)

    @cached_property
    def knowledge(self) -> KnowledgeService:
        """The knowledge base."""
        from app.knowledge.service import KnowledgeService

        return KnowledgeService(self.database, self.clock, self.ids)


@asynccontextmanager
async def open_session(settings: Settings) -> AsyncGenerator[Session]:
    """Open the database, making the tables of a fresh embedded one.

    Raises:
        ConfigurationError: it can't be opened, or its schema isn't this program's.
    """
    metrics = Metrics()
    logs = configure_logging(metrics=metrics, level="WARNING", pretty=True)
    try:
        await schema.prepare(settings.database_url)
        database = Database(settings.database_url, metrics=metrics, pool_size=2)
        await database.open()
        try:
            clock = SystemClock()
            yield Session(settings=settings, database=database, clock=clock, ids=SystemIds(clock))
        finally:
            await database.close()
    finally:
        logs.stop()


def in_session(job: Callable[[Session], Awaitable[T]], settings: Settings | None = None) -> T:
    """Run a job on the database of the settings (the environment's unless given) and return its result."""

    async def work() -> T:
        async with open_session(settings or load_settings()) as session:
            return await job(session)

    return asyncio.run(work())
