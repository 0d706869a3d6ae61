"""Engines with the settings that the promises rest on.

SQLite: WAL, ``synchronous=FULL`` (an acked message must survive power loss), one writer connection, readers apart.
PostgreSQL: asyncpg, time limits on statements, locks and idle transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from app.storage.urls import is_sqlite

__all__ = ["BUSY_TIMEOUT_MS", "READ_SECONDS", "make_async_engine", "make_sync_writer_engine"]

BUSY_TIMEOUT_MS = 5_000
"""How long a connection waits for another process's write (a backup, a CLI command) before it gives up."""

READ_SECONDS = 15.0
"""How long one may read. On SQLite a reader keeps the log from being used again from its beginning, so that it grows for
as long as one reads. Source: the faults to survive, F11."""

_CUT_AGAIN_SECONDS = 0.5

_WAL_TRIES = 10

_POSTGRES_SETTINGS = {
    "statement_timeout": str(round(READ_SECONDS * 1000)),
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "2500",
    "application_name": "huoji",
}


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-1024")
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.close()


def _use_wal(cursor: Any) -> None:
    for _ in range(_WAL_TRIES - 1):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        # SQLite doesn't wait for another that is just making a fresh file a WAL file, but it does for the write lock.
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("ROLLBACK")
    cursor.execute("PRAGMA journal_mode=WAL")


def _prepare_writer(connection: Any, _record: object) -> None:
    # The writer shares its thread with the event loop: it asks for the lock again instead of sleeping on it.
    connection.execute("PRAGMA busy_timeout=0")
    # Its indexes are touched by every message; readers come and go and make do with less.
    connection.execute("PRAGMA cache_size=-4096")


def _limit_reads(engine: Engine, seconds: float) -> None:
    """Interrupt whatever statement runs on a connection that was taken ``seconds`` ago, and every later one on it.

    A handler that SQLite itself calls would cost every read more than a timer does, and not know when it began.
    """

    def taken(connection: Any, record: Any, _proxy: object) -> None:
        loop = asyncio.get_running_loop()
        record.info["cut"] = loop.call_later(seconds, begin_to_cut, loop, connection, record)

    def given_back(_connection: object, record: Any) -> None:
        cut = record.info.pop("cut", None)
        if cut is not None:
            cut.cancel()

    def begin_to_cut(loop: asyncio.AbstractEventLoop, connection: Any, record: Any) -> None:
        record.info["cut"] = loop.create_task(keep_cutting(connection), name="read-too-long")

    async def keep_cutting(connection: Any) -> None:
        # The connection may be between two statements just then.
        with contextlib.suppress(ValueError, sqlite3.Error):
            while True:
                await connection.driver_connection.interrupt()
                await asyncio.sleep(_CUT_AGAIN_SECONDS)

    event.listen(engine, "checkout", taken)
    event.listen(engine, "checkin", given_back)


def make_async_engine(url: URL, *, pool_size: int = 4, read_seconds: float = READ_SECONDS) -> AsyncEngine:
    """Make the engine for reads (SQLite), or for everything (PostgreSQL).

    ``read_seconds``: how long SQLite may read on a connection before it is interrupted.
    """
    if is_sqlite(url):
        engine = create_async_engine(
            url, pool_size=pool_size, max_overflow=0, pool_timeout=5, hide_parameters=True
        )
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        _limit_reads(engine.sync_engine, read_seconds)
        return engine
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=5,
        pool_pre_ping=False,
        hide_parameters=True,
        connect_args={"server_settings": _POSTGRES_SETTINGS, "timeout": 5, "command_timeout": 20},
    )


def make_sync_writer_engine(url: URL) -> Engine:
    """Make the engine of SQLite's one writer connection. It begins no transaction by itself."""
    engine = create_engine(
        url.set(drivername="sqlite"),
        poolclass=StaticPool,
        # A failing statement is logged; its parameters are buyers' texts.
        hide_parameters=True,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "connect", _prepare_writer)
    return engine
