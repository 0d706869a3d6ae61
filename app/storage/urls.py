"""Database URLs: what people write, made into what SQLAlchemy needs."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.core.errors import ConfigurationError

__all__ = ["is_sqlite", "parse_database_url", "sqlite_path", "wal_bytes"]

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


def parse_database_url(text: str) -> URL:
    """Read an SQLAlchemy URL, the driver being optional, and put our async driver in.

    Raises:
        ConfigurationError: it is no URL, or names a database other than SQLite and PostgreSQL; the password is never
            part of the message.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigurationError(
            "HUOJI_DATABASE_URL is not a database URL; write e.g. sqlite:///var/huoji.db or "
            "postgresql://user:password@host/name (characters such as @ in the password percent-encoded)",
            code="database_url",
        ) from None
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None:
        raise ConfigurationError(
            f"HUOJI_DATABASE_URL names {url.get_backend_name()!r}; Huoji runs on sqlite and postgresql",
            code="database_url",
        )
    return url.set(drivername=driver)


def is_sqlite(url: URL) -> bool:
    """Whether this is an embedded database."""
    return url.get_backend_name() == "sqlite"


def sqlite_path(url: URL) -> Path | None:
    """Return the file of an embedded database; None for one in memory or a server."""
    if not is_sqlite(url) or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def wal_bytes(path: Path) -> int:
    """Return the size of an embedded database's write-ahead log, in bytes; 0 while there is none."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0
