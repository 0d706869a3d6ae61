"""Accounts as they are stored and as people see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, select

from app.core.crypto import SecretBox
from app.core.errors import NotFoundError
from app.storage.tables import accounts, buyers, conversations

__all__ = [
    "AccountInfo",
    "account_info",
    "account_row",
    "account_secrets",
    "find_row",
    "is_used",
    "opened",
    "texts_of",
]

_HIDDEN = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountInfo:
    """An account as people see it: ``settings`` with every secret hidden (one mark for each)."""

    id: str
    channel: str
    shop_id: str
    state: str
    state_reason: str | None
    settings: Mapping[str, str | tuple[str, ...]]
    version: int

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "id": self.id,
            "channel": self.channel,
            "shop_id": self.shop_id,
            "state": self.state,
            "state_reason": self.state_reason,
            "settings": dict(self.settings),
            "webhook": f"/webhooks/{self.channel}/{self.id}",
        }


def account_info(row: Mapping[Any, Any]) -> AccountInfo:
    """Return a row of table ``accounts`` as people see it."""
    shown = {
        name: tuple(_HIDDEN for _ in value) if isinstance(value, list) else _shown(value)  # pyright: ignore[reportUnknownVariableType]
        for name, value in orjson.loads(row["settings"]).items()
    }
    return AccountInfo(
        id=row["id"],
        channel=row["channel"],
        shop_id=row["shop_id"],
        state=row["state"],
        state_reason=row["state_reason"],
        settings=shown,
        version=row["version"],
    )


def account_secrets(row: Mapping[Any, Any], box: SecretBox) -> tuple[str, ...]:
    """Return the signing secrets of a row of table ``accounts`` as they were given, the current one first.

    Raises:
        ConfigurationError: they were sealed with another key.
    """
    return tuple(texts_of(opened(row, box).get("secret", ())))


def opened(row: Mapping[Any, Any], box: SecretBox) -> dict[str, str | Sequence[str]]:
    """Return the settings of a row of table ``accounts`` as they were given.

    Raises:
        ConfigurationError: they were sealed with another key.
    """

    def plain(value: str) -> str:
        return box.open(value) if SecretBox.is_sealed(value) else value

    stored: dict[str, str | list[str]] = orjson.loads(row["settings"])
    return {
        name: plain(value) if isinstance(value, str) else [plain(each) for each in value]
        for name, value in stored.items()
    }


def texts_of(value: str | Sequence[str]) -> Sequence[str]:
    """Return a setting that may have several values as all of them."""
    return (value,) if isinstance(value, str) else value


def _shown(value: str) -> str:
    return _HIDDEN if SecretBox.is_sealed(value) else value


def find_row(connection: Connection, account_id: str) -> Mapping[Any, Any] | None:
    """Return an account's row, also of one that was removed."""
    return connection.execute(select(accounts).where(accounts.c.id == account_id)).mappings().one_or_none()


def account_row(connection: Connection, account_id: str) -> Mapping[Any, Any]:
    """Return an account's row.

    Raises:
        NotFoundError: there is none, or it was removed (``account_unknown``).
    """
    row = find_row(connection, account_id)
    if row is None or row["state"] == "removed":
        raise NotFoundError(f"there is no account {account_id!r}", code="account_unknown")
    return row


def is_used(connection: Connection, account_id: str) -> bool:
    """Whether a buyer has ever written to an account."""
    return any(
        connection.execute(select(table.c.id).where(table.c.account_id == account_id).limit(1)).first()
        is not None
        for table in (conversations, buyers)
    )
