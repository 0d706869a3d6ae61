"""Adding and changing shops and their accounts. Every change is audited and picked up by running servers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, delete, insert, select, update

from app.channels.addresses import PUBLIC_ONLY, AddressPolicy
from app.channels.base import SettingField, SettingValues
from app.channels.registry import Registry
from app.core.clock import Clock
from app.core.crypto import SecretBox
from app.core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from app.core.ids import Ids
from app.domain.delivery import Account
from app.knowledge.shop_files import parse_shop
from app.shops.accounts import AccountInfo, account_info, account_row, find_row, is_used, opened, texts_of
from app.storage.database import Database, bump_revision
from app.storage.tables import accounts, audit, shops

__all__ = ["ShopInfo", "ShopService"]

_ACCOUNT_ID = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
"""What stands in a webhook's address without being encoded."""

_MAX_SHOP_ID = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopInfo:
    """A shop with its settings as they were given."""

    id: str
    name: str
    settings: Mapping[str, Any]
    version: int

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {"id": self.id, "name": self.name, "settings": dict(self.settings), "version": self.version}


class ShopService:
    """Shops and accounts, changed one at a time through the database's writer."""

    def __init__(
        self,
        database: Database,
        *,
        registry: Registry,
        box: SecretBox,
        clock: Clock,
        ids: Ids,
        policy: AddressPolicy = PUBLIC_ONLY,
    ) -> None:
        """Take the open database and what accounts' settings are checked and sealed with."""
        self._database = database
        self._registry = registry
        self._box = box
        self._clock = clock
        self._ids = ids
        self._policy = policy

    # Accounts

    async def add_account(
        self, channel: str, account_id: str, *, shop_id: str, settings: SettingValues, actor: str = "cli"
    ) -> AccountInfo:
        """Make an account, and its shop when that is new.

        Raises:
            ConflictError: there is already an account with this id, code ``account_exists``.
            NotFoundError: there is no such channel.
            InvalidError: an id or a setting is not acceptable; ``errors`` names the field.
        """
        if not _ACCOUNT_ID.fullmatch(account_id):
            fix = "1 to 64 letters, digits, _ . or -"
            raise InvalidError(
                f"the account id is not usable; {fix}", errors=[FieldProblem("id", "not usable", fix)]
            )
        _check_shop_id(shop_id)
        stored = self._sealed(channel, account_id, shop_id, settings)
        now = self._clock.now_ms()
        row = {
            "id": account_id,
            "channel": channel,
            "shop_id": shop_id,
            "settings": _dumps(stored),
            "state": "active",
            "state_reason": None,
            "updated_at_ms": now,
        }

        def store(connection: Connection) -> AccountInfo:
            before = find_row(connection, account_id)
            if before is not None and before["state"] != "removed":
                raise ConflictError(f"there is already an account {account_id!r}", code="account_exists")
            if connection.execute(select(shops.c.id).where(shops.c.id == shop_id)).first() is None:
                self._put_shop(connection, shop_id, shop_id, {}, None)
            if before is None:
                connection.execute(insert(accounts), {**row, "version": 1, "created_at_ms": now})
            else:
                # Its conversations are still there; the account takes them up again.
                connection.execute(
                    update(accounts)
                    .where(accounts.c.id == account_id)
                    .values(**row, version=accounts.c.version + 1)
                )
            self._changed(
                connection, actor, "account.add", account_id, {"channel": channel, "shop_id": shop_id}
            )
            return account_info(account_row(connection, account_id))

        return await self._database.write(store)

    async def set_account(
        self,
        account_id: str,
        settings: SettingValues,
        *,
        shop_id: str | None = None,
        actor: str = "cli",
    ) -> AccountInfo:
        """Change settings of an account; others stay, an empty value removes one, ``secret`` replaces all secrets.

        Raises:
            NotFoundError: there is no such account, or no such shop.
            InvalidError: a setting is not acceptable; ``errors`` names the field.
        """
        before = await self._database.read(lambda connection: account_row(connection, account_id))
        merged = {**opened(before, self._box), **settings}
        merged = {name: value for name, value in merged.items() if any(texts_of(value))}
        stored = self._sealed(before["channel"], account_id, before["shop_id"], merged)

        def store(connection: Connection) -> AccountInfo:
            if (
                shop_id is not None
                and connection.execute(select(shops.c.id).where(shops.c.id == shop_id)).first() is None
            ):
                raise NotFoundError(f"there is no shop {shop_id!r}", code="shop_unknown")
            changed = connection.execute(
                update(accounts)
                .where(accounts.c.id == account_id, accounts.c.version == before["version"])
                .values(
                    settings=_dumps(stored),
                    shop_id=shop_id or before["shop_id"],
                    version=accounts.c.version + 1,
                    updated_at_ms=self._clock.now_ms(),
                )
            ).rowcount
            if not changed:
                raise ConflictError(
                    "the account was changed at the same time; try again", code="account_changed"
                )
            detail = {"settings": sorted(settings)} | ({"shop_id": shop_id} if shop_id else {})
            self._changed(connection, actor, "account.set", account_id, detail)
            return account_info(account_row(connection, account_id))

        return await self._database.write(store)

    async def list_accounts(self) -> list[AccountInfo]:
        """Return every account, by id."""

        def read(connection: Connection) -> list[AccountInfo]:
            rows = select(accounts).where(accounts.c.state != "removed").order_by(accounts.c.id)
            return [account_info(row) for row in connection.execute(rows).mappings()]

        return await self._database.read(read)

    async def find_account(self, account_id: str) -> AccountInfo:
        """Return one account. Raises NotFoundError."""
        return await self._database.read(lambda connection: account_info(account_row(connection, account_id)))

    async def pause_account(
        self, account_id: str, *, reason: str = "paused by hand", actor: str = "cli"
    ) -> AccountInfo:
        """Stop sending for an account: messages still come in, replies wait. Raises NotFoundError."""
        return await self._turn(account_id, "paused", reason, "account.pause", actor)

    async def resume_account(self, account_id: str, *, actor: str = "cli") -> AccountInfo:
        """Send again, what waited first. Raises NotFoundError."""
        return await self._turn(account_id, "active", None, "account.resume", actor)

    async def _turn(
        self, account_id: str, state: str, reason: str | None, action: str, actor: str
    ) -> AccountInfo:
        def store(connection: Connection) -> AccountInfo:
            account_row(connection, account_id)
            connection.execute(
                update(accounts)
                .where(accounts.c.id == account_id)
                .values(
                    state=state,
                    state_reason=reason,
                    version=accounts.c.version + 1,
                    updated_at_ms=self._clock.now_ms(),
                )
            )
            self._changed(connection, actor, action, account_id, {"reason": reason} if reason else {})
            return account_info(account_row(connection, account_id))

        return await self._database.write(store)

    async def remove_account(self, account_id: str, *, actor: str = "cli") -> None:
        """Take an account away with its secrets; its webhook answers 404 from now on. What was said on it stays.

        Raises:
            NotFoundError: there is no such account.
        """

        def store(connection: Connection) -> None:
            account_row(connection, account_id)
            if is_used(connection, account_id):
                connection.execute(
                    update(accounts)
                    .where(accounts.c.id == account_id)
                    .values(
                        state="removed",
                        state_reason=None,
                        settings="{}",
                        version=accounts.c.version + 1,
                        updated_at_ms=self._clock.now_ms(),
                    )
                )
            else:
                connection.execute(delete(accounts).where(accounts.c.id == account_id))
            self._changed(connection, actor, "account.remove", account_id, {})

        await self._database.write(store)

    def _sealed(
        self, channel: str, account_id: str, shop_id: str, settings: SettingValues
    ) -> dict[str, str | list[str]]:
        """Check settings with the channel and return them as they are stored."""
        plain = {name: value for name, value in settings.items() if isinstance(value, str)}
        self._registry.capabilities(channel)
        account = Account(id=account_id, channel=channel, shop_id=shop_id, secrets=(), settings=plain)
        adapter = self._registry.for_account(account)
        problems = adapter.check_settings(settings, policy=self._policy)
        if problems:
            raise InvalidError(
                f"account {account_id}: {_told(problems)}", code="account_invalid", errors=problems
            )
        fields: dict[str, SettingField] = {field.name: field for field in adapter.settings}
        stored: dict[str, str | list[str]] = {}
        for name, value in settings.items():
            field = fields[name]
            texts = [self._box.seal(text) if field.is_secret else text for text in texts_of(value)]
            stored[name] = texts if name == "secret" or field.most > 1 else texts[0]
        return stored

    # Shops

    async def set_shop(
        self, shop_id: str, settings: Mapping[str, Any], *, actor: str = "cli", replace: bool = False
    ) -> ShopInfo:
        """Change a shop's settings, making the shop when it is new.

        Args:
            shop_id: our id of the shop.
            settings: names to values as JSON has them; None takes a setting away.
            actor: who did it, for the audit log.
            replace: whether settings that aren't given go, too.

        Raises:
            InvalidError: code ``shop_invalid``; nothing was changed.
        """
        _check_shop_id(shop_id)

        def store(connection: Connection) -> ShopInfo:
            row = connection.execute(select(shops).where(shops.c.id == shop_id)).mappings().one_or_none()
            merged: dict[str, Any] = {}
            if row is not None and not replace:
                merged = {"name": row["name"], **orjson.loads(row["settings"])}
            merged |= settings
            merged = {name: value for name, value in merged.items() if value is not None}
            policy = parse_shop(shop_id, merged)
            merged.pop("name", None)
            version = self._put_shop(
                connection, shop_id, policy.name, merged, row["version"] if row else None
            )
            self._changed(connection, actor, "shop.set", shop_id, {"settings": sorted(settings)})
            return ShopInfo(id=shop_id, name=policy.name, settings=merged, version=version)

        return await self._database.write(store)

    async def import_shop(
        self, shop: Mapping[str, Any], *, shop_id: str | None = None, actor: str = "cli"
    ) -> ShopInfo:
        """Take a shop object (a scenario's ``shop``) as the whole of a shop's settings.

        ``shop_id``: which shop; None: the object's own ``shop_id``, else its ``name``.

        Raises:
            InvalidError: the object names no shop, or a setting is not acceptable.
        """
        settings = dict(shop)
        own = settings.pop("shop_id", None)
        chosen = shop_id or own or settings.get("name")
        if not isinstance(chosen, str):
            raise InvalidError(
                "the shop object has neither shop_id nor name, so it is not clear which shop it is",
                code="shop_invalid",
                errors=[FieldProblem("shop_id", "is missing", "add shop_id to the file, or give --shop")],
            )
        return await self.set_shop(chosen, settings, actor=actor, replace=True)

    async def list_shops(self) -> list[ShopInfo]:
        """Return every shop, by id."""

        def read(connection: Connection) -> list[ShopInfo]:
            return [
                ShopInfo(
                    id=row["id"],
                    name=row["name"],
                    settings=orjson.loads(row["settings"]),
                    version=row["version"],
                )
                for row in connection.execute(select(shops).order_by(shops.c.id)).mappings()
            ]

        return await self._database.read(read)

    def _put_shop(
        self,
        connection: Connection,
        shop_id: str,
        name: str,
        settings: Mapping[str, Any],
        version: int | None,
    ) -> int:
        """Insert a shop (``version`` None) or change it; return its new version."""
        now = self._clock.now_ms()
        next_version = (version or 0) + 1
        values = {"name": name, "settings": _dumps(settings), "updated_at_ms": now, "version": next_version}
        if version is None:
            connection.execute(insert(shops), {"id": shop_id, "created_at_ms": now, **values})
        else:
            connection.execute(update(shops).where(shops.c.id == shop_id).values(**values))
        bump_revision(connection, "shops")
        return next_version

    def _changed(
        self, connection: Connection, actor: str, action: str, subject: str, detail: Mapping[str, Any]
    ) -> None:
        if action.startswith("account."):
            bump_revision(connection, "accounts")
        connection.execute(
            insert(audit),
            {
                "id": self._ids.next(),
                "actor": actor,
                "action": action,
                "subject": subject,
                "detail": _dumps(detail),
                "at_ms": self._clock.now_ms(),
            },
        )


def _check_shop_id(shop_id: str) -> None:
    is_clean = shop_id == shop_id.strip() and shop_id.isprintable() and "/" not in shop_id
    if not shop_id or len(shop_id) > _MAX_SHOP_ID or not is_clean:
        fix = f"1 to {_MAX_SHOP_ID} printable characters without / and without spaces around"
        raise InvalidError(
            f"the shop's id is not usable; {fix}", errors=[FieldProblem("shop", "not usable", fix)]
        )


def _told(problems: Sequence[FieldProblem]) -> str:
    return "; ".join(
        f"{problem.field} {problem.message}" + (f" ({problem.fix})" if problem.fix else "")
        for problem in problems
    )


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()
