"""Having a database to oneself for an upgrade, and waiting until nobody else does.

On PostgreSQL that is an advisory lock of one transaction, on SQLite the one writer's lock. Both end with whoever holds
them, however it dies.

Source: the faults to survive, F45 and F46.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.core.errors import ConfigurationError
from app.storage.engines import BUSY_TIMEOUT_MS, make_sync_writer_engine
from app.storage.urls import sqlite_path

__all__ = ["after_upgrade", "after_writers", "alone_in_postgresql", "alone_in_sqlite", "is_lock_timeout"]

T = TypeVar("T")

_ADVISORY_LOCK = 0x48554F4A49
"""PostgreSQL's lock for one upgrade at a time: "HUOJI" as a number."""

_UPGRADE_LIMITS = {
    "lock_timeout": "10min",
    "statement_timeout": "0",
    # A machine that vanished must not keep everybody else's upgrade waiting.
    "idle_in_transaction_session_timeout": "60s",
}
_TABLE_LOCK_TIMEOUT = "2s"
"""How long an upgrade waits for a table that others use. Whoever needs the table queues behind it meanwhile, webhooks
too, so it gives way and is tried again rather than wait for long."""

_START_LIMITS = {"lock_timeout": "60s", "statement_timeout": "0"}
"""How long a server's start waits for an upgrade that is under way."""

_CONNECT = {"timeout": 5}
_LOCK_NOT_AVAILABLE = "55P03"


async def alone_in_postgresql(url: URL, function: Callable[[Connection], T]) -> T:
    """Run a function in one transaction, once no other upgrade is under way. A table that is in use is soon given up on.

    Raises:
        DBAPIError: among others when ``is_lock_timeout``; nothing was changed.
    """

    def run(connection: Connection) -> T:
        _limit(connection, _UPGRADE_LIMITS)
        connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        _limit(connection, {"lock_timeout": _TABLE_LOCK_TIMEOUT})
        return function(connection)

    return await _in_transaction(url, run)


async def after_upgrade(url: URL, function: Callable[[Connection], T]) -> T:
    """Run a function that looks at a PostgreSQL database, once no upgrade is under way.

    Raises:
        DBAPIError: among others when ``is_lock_timeout``: it is under way still.
    """

    def run(connection: Connection) -> T:
        _limit(connection, _START_LIMITS)
        connection.execute(select(func.pg_advisory_xact_lock_shared(_ADVISORY_LOCK)))
        return function(connection)

    return await _in_transaction(url, run)


async def _in_transaction(url: URL, function: Callable[[Connection], T]) -> T:
    # Without the limits on a command's time that a server's own connections have.
    engine = create_async_engine(url, connect_args=_CONNECT, hide_parameters=True)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(function)
    finally:
        await engine.dispose()


def _limit(connection: Connection, limits: dict[str, str]) -> None:
    for name, value in limits.items():
        connection.execute(text(f"SET LOCAL {name} = '{value}'"))


def is_lock_timeout(error: DBAPIError) -> bool:
    """Whether PostgreSQL gave up waiting for a lock."""
    return getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE


def alone_in_sqlite(url: URL, function: Callable[[Connection], T]) -> T:
    """Run a function in one transaction of the only writer, making the file and its folder where need be.

    Raises:
        ConfigurationError: it would leave rows without what they refer to; nothing was changed.
        DBAPIError: the file can't be opened or written.
    """
    path = sqlite_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = make_sync_writer_engine(url)

    def settle(connection: Any, _record: object) -> None:
        # A table that is rebuilt must not take the rows that point at it along.
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", settle)
    event.listen(engine, "begin", begin)
    try:
        with engine.begin() as connection:
            result = function(connection)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise ConfigurationError(
                    f"the migration would leave rows of {broken[0]} without what they refer to"
                )
            return result
    finally:
        engine.dispose()


def after_writers(url: URL, function: Callable[[Connection], T]) -> T:
    """Run a function that looks at an SQLite database, once nobody writes to it (which may be an upgrade).

    Raises:
        DBAPIError: somebody writes for longer than one waits, or the file can't be written.
    """
    engine = make_sync_writer_engine(url)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                return function(connection)
            finally:
                connection.exec_driver_sql("ROLLBACK")
    finally:
        engine.dispose()
