"""Shops and accounts as every process has them at hand: read once, read again when their revision moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, select, update

from app.channels.base import ChannelAdapter
from app.channels.registry import RELAY_CHANNEL, Registry
from app.core.clock import Clock
from app.core.crypto import SecretBox
from app.core.ids import Ids
from app.domain.delivery import Account
from app.domain.shops import ShopPolicy
from app.knowledge.shop_files import parse_shop
from app.storage.database import Database, bump_revision
from app.storage.tables import accounts, notices, shops

__all__ = ["Directory", "account_from_row"]


def account_from_row(row: Mapping[str, Any], box: SecretBox, registry: Registry) -> Account:
    """Make an account of its row, its secrets opened.

    Raises:
        ConfigurationError: a secret was sealed with another key.
    """
    settings: dict[str, Any] = orjson.loads(row["settings"])
    sealed: list[str] = settings.pop("secret", [])
    adapter = registry.get(RELAY_CHANNEL if settings.get("chat") == "relay" else row["channel"])
    secrets = adapter.open_secrets([box.open(secret) for secret in sealed])
    opened = {
        name: box.open(value) if SecretBox.is_sealed(value) else value for name, value in settings.items()
    }
    return Account(
        id=row["id"],
        channel=row["channel"],
        shop_id=row["shop_id"],
        secrets=secrets,
        settings=opened,
        is_paused=row["state"] == "paused",
    )


class Directory:
    """Finds accounts, adapters and shop policies without touching the database on the way of a message."""

    def __init__(
        self,
        *,
        database: Database,
        registry: Registry,
        box: SecretBox,
        clock: Clock,
        ids: Ids,
        burst_quiet: float,
        burst_max: float,
    ) -> None:
        """``burst_quiet`` and ``burst_max`` (seconds) are for shops that set none."""
        self._database = database
        self._registry = registry
        self._box = box
        self._clock = clock
        self._ids = ids
        self._burst_quiet = burst_quiet
        self._burst_max = burst_max
        self._accounts: dict[str, Account] = {}
        self._shops: dict[str, ShopPolicy] = {}

    async def refresh(self) -> None:
        """Read everything anew."""
        account_rows, shop_rows = await self._database.read(_read_all)
        self._accounts = {row["id"]: account_from_row(row, self._box, self._registry) for row in account_rows}
        self._shops = {
            row["id"]: parse_shop(
                row["id"],
                {"name": row["name"], **orjson.loads(row["settings"])},
                burst_quiet=self._burst_quiet,
                burst_max=self._burst_max,
                version=row["version"],
            )
            for row in shop_rows
        }

    def account(self, account_id: str) -> Account | None:
        """Return an account, or None when there is none."""
        return self._accounts.get(account_id)

    def adapter(self, account: Account) -> ChannelAdapter:
        """Return the adapter that speaks an account's wire format: its channel's, or the relay's."""
        return self._registry.for_account(account)

    def shop(self, shop_id: str) -> ShopPolicy:
        """Return a shop's policy; a shop without settings has the defaults."""
        return self._shops.get(shop_id) or ShopPolicy(id=shop_id, name=shop_id)

    def shops(self) -> tuple[ShopPolicy, ...]:
        """Return every shop."""
        return tuple(self._shops.values())

    async def pause(self, account_id: str, reason: str) -> None:
        """Stop sending for an account whose marketplace refuses it, and tell the admins; its replies wait."""
        now_ms = self._clock.now_ms()
        notice_id = self._ids.next()

        def change(connection: Connection) -> None:
            changed = connection.execute(
                update(accounts)
                .where(accounts.c.id == account_id, accounts.c.state == "active")
                .values(
                    state="paused", state_reason=reason, updated_at_ms=now_ms, version=accounts.c.version + 1
                )
            ).rowcount
            if changed:
                connection.execute(
                    notices.insert().values(
                        id=notice_id,
                        kind="account_paused",
                        subject=account_id,
                        text=f"账号 {account_id} 已暂停发送：{reason}。修好后运行 huoji account resume {account_id}",
                        created_at_ms=now_ms,
                    )
                )
                bump_revision(connection, "accounts")

        await self._database.write(change)
        await self.refresh()


def _read_all(connection: Connection) -> tuple[list[dict[Any, Any]], list[dict[Any, Any]]]:
    account_rows = [
        dict(row)
        for row in connection.execute(select(accounts).where(accounts.c.state != "removed")).mappings()
    ]
    shop_rows = [dict(row) for row in connection.execute(select(shops)).mappings()]
    return account_rows, shop_rows
