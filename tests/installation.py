"""An installation as a shop would have it: database, knowledge, accounts and people, made through the services."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, select

from app.channels.addresses import AddressPolicy
from app.channels.registry import Registry
from app.core.clock import SystemClock
from app.core.crypto import SecretBox
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from app.desk.passwords import Argon2Cost, Passwords
from app.desk.people import User, UserService
from app.desk.permissions import Role
from app.knowledge.files import load_entries
from app.knowledge.service import KnowledgeService
from app.knowledge.shipped import shipped_knowledge
from app.shops.service import ShopService
from app.storage import schema
from app.storage.database import Database
from tests.marketplace import Marketplace

R = TypeVar("R")

KEY = bytes(range(32))
PASSWORD = "correct horse battery"

SMALL_KNOWLEDGE = """
category: ship
entries:
  - id: ship_time
    question: 什么时候发货
    variants: [多久发货, 几天能发货, 啥时候能发货呀]
    answer: 亲，付款后 48 小时内发货哦~
  - id: return_policy
    question: 支持七天无理由退货吗
    variants: [可以七天无理由退货吗, 能不能七天无理由退换]
    answer: 亲，支持七天无理由退货的哦~
  - id: invoice
    question: 可以开发票吗
    variants: [能开发票吗, 怎么开发票]
    answer: 亲，可以开电子发票，收货后在订单页申请哦~
  - id: material
    question: 这个是什么材质的
    variants: [什么面料做的, 是什么材料]
    answer: 亲，这款是纯棉的哦~
"""
"""Four entries that are quickly read and quickly matched."""

QUESTIONS = {
    "什么时候发货": "48 小时内",
    "支持七天无理由退货吗": "七天无理由",
    "可以开发票吗": "电子发票",
    "这个是什么材质的": "纯棉",
}
"""Questions that the small knowledge answers, and what tells their answers apart."""


def environment(url: str, **more: str) -> dict[str, str]:
    """Return the environment of a program on this installation; every message is answered by itself."""
    return {
        "HUOJI_DATABASE_URL": url,
        "HUOJI_SECRET_KEY": base64.urlsafe_b64encode(KEY).decode(),
        "HUOJI_ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
        "HUOJI_BURST_QUIET": "0",
        "HUOJI_LOG_FORMAT": "json",
        **more,
    }


class Installation:
    """The services over an installation's database, as the commands use them: open for a moment, then closed."""

    def __init__(self, url: str, database: Database) -> None:
        self.url = url
        self.database = database
        clock = SystemClock()
        ids = SystemIds(clock)
        self.shops = ShopService(
            database,
            registry=Registry(),
            box=SecretBox(KEY),
            clock=clock,
            ids=ids,
            policy=AddressPolicy.parse(["127.0.0.1"]),
        )
        self.users = UserService(
            database, clock=clock, ids=ids, passwords=Passwords(Argon2Cost(passes=1, memory_kib=64, lanes=1))
        )
        self.knowledge = KnowledgeService(database, clock, ids)

    async def publish(self, folder: Path, text: str | None) -> int:
        """Publish knowledge: YAML text by way of a file in `folder`, or the shipped one; return the version."""
        source = shipped_knowledge()
        if text is not None:
            source = folder / "knowledge.yaml"
            source.write_text(text, encoding="utf-8")
        await self.knowledge.import_files(load_entries([source]))
        return await self.knowledge.publish(author="tests")

    async def add_agent(self, name: str, *, role: Role = Role.AGENT, groups: tuple[str, ...] = ()) -> User:
        """Add somebody with the password of all tests."""
        return await self.users.add(name, role=role, password=PASSWORD, groups=groups)


async def on_installation(url: str, job: Callable[[Installation], Awaitable[R]]) -> R:
    """Do something on an installation's database; a server may be running on it."""
    await schema.prepare(url)
    database = Database(url, metrics=Metrics(), pool_size=2)
    await database.open()
    try:
        return await job(Installation(url, database))
    finally:
        await database.close()


async def install(
    url: str,
    folder: Path,
    market: Marketplace,
    *,
    knowledge: str | None = SMALL_KNOWLEDGE,
    accounts: Mapping[str, str] | None = None,
    **shop_settings: Any,
) -> None:
    """Fill an empty database: one shop, its accounts on a marketplace, published knowledge.

    `accounts`: id to callback path where not one called `shop-1`. `knowledge` None: the shipped one.
    """

    async def fill(installation: Installation) -> None:
        await installation.publish(folder, knowledge)
        for account in accounts or {"shop-1": "shop-1"}:
            await installation.shops.add_account(
                "generic", account, shop_id="shop", settings=market.account_settings(account)
            )
        settings = {"name": "青禾", "welcome": "", "loop_guard": 0, "repeat_guard": False, **shop_settings}
        await installation.shops.import_shop(settings, shop_id="shop")

    if url.startswith("postgresql"):
        await schema.upgrade(url)
    await on_installation(url, fill)


async def read_rows(url: str, table: Table, *where: Any) -> list[Mapping[str, Any]]:
    """Read rows of a table in the order of their keys."""

    def look(connection: Connection) -> list[Mapping[str, Any]]:
        statement = select(table).where(*where).order_by(*table.primary_key.columns)
        return [dict(row) for row in connection.execute(statement).mappings()]

    return await on_installation(url, lambda installation: installation.database.read(look))
