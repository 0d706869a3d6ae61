"""The database as the rest of Huoji uses it: reads, and writes through the batch writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import ConfigurationError, UnavailableError
from app.core.metrics import Metrics
from app.storage.embedded import EmbeddedWriter
from app.storage.engines import make_async_engine
from app.storage.tables import revisions
from app.storage.urls import is_sqlite, parse_database_url, sqlite_path
from app.storage.writer import ANSWER_SECONDS, BatchWriter

__all__ = ["Database", "bump_revision", "read_revisions", "upsert"]

R = TypeVar("R")


class Database:
    """One database of one process.

    Functions given to ``read`` and ``write`` take a plain SQLAlchemy ``Connection``, whichever database is behind it.
    They hold no other resources, never wait for anything else, and never commit.
    """

    def __init__(self, url: str, *, metrics: Metrics, pool_size: int = 4) -> None:
        """Take an SQLAlchemy URL (driver optional). Opens nothing yet."""
        self.url = parse_database_url(url)
        self.is_sqlite = is_sqlite(self.url)
        self._engine = make_async_engine(self.url, pool_size=pool_size)
        self._embedded = EmbeddedWriter(self.url) if self.is_sqlite else None
        self._writer_connection: AsyncConnection | None = None
        self.writer = BatchWriter(
            self._run_transaction, metrics=metrics, answer_seconds=None if self.is_sqlite else ANSWER_SECONDS
        )

    @property
    def is_damaged(self) -> bool:
        """Whether an embedded database's file turned out to be damaged, so that nothing is written any more."""
        return self._embedded is not None and self._embedded.is_damaged

    async def open(self) -> None:
        """Make the folder of an embedded database when missing, and start the writer.

        Raises:
            ConfigurationError: the database can't be opened; the message says what to look at.
        """
        path = sqlite_path(self.url)
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            async with self._engine.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
        except (SQLAlchemyError, OSError) as error:
            await self._engine.dispose()
            raise ConfigurationError(
                f"cannot open the database {self.url.render_as_string(hide_password=True)}: {_cause(error)}",
                code="database_unreachable",
            ) from error
        self.writer.start()

    async def close(self) -> None:
        """Commit what is queued and let go of every connection."""
        await self.writer.stop()
        if self._writer_connection is not None:
            await self._writer_connection.close()
            self._writer_connection = None
        await self._engine.dispose()
        if self._embedded is not None:
            self._embedded.close()

    async def read(self, function: Callable[[Connection], R]) -> R:
        """Run a function that only reads; return its result.

        Raises:
            UnavailableError: the database can't be reached, no connection came free in time, or it read for too long.
        """
        try:
            async with self._engine.connect() as connection:
                return await connection.run_sync(function)
        except (PoolTimeoutError, OSError, TimeoutError) as error:
            raise UnavailableError("the database is busy or away; try again", retry_after=1) from error
        except DBAPIError as error:
            if self._embedded is not None:
                self._embedded.refuse_if_damaged(error)
            raise UnavailableError("the database did not answer; try again", retry_after=1) from error

    async def write(self, function: Callable[[Connection], R]) -> R:
        """Run a function that writes, in a transaction; return its result once it is committed."""
        return await self.writer.call(function)

    async def _run_transaction(self, function: Callable[[Connection], Any]) -> Any:
        if self._embedded is not None:
            return await self._embedded.run(function)
        connection = self._writer_connection
        try:
            if connection is None or connection.closed or connection.invalidated:
                connection = await self._engine.connect()
                self._writer_connection = connection
            async with connection.begin():
                return await connection.run_sync(function)
        except (SQLAlchemyError, OSError, TimeoutError):
            self._writer_connection = None
            if connection is not None:
                await _discard(connection)
            raise


async def _discard(connection: AsyncConnection) -> None:
    try:
        await connection.close()
    except (SQLAlchemyError, OSError, TimeoutError):
        # The connection is already broken; the pool makes a new one.
        await connection.invalidate()


def _cause(error: Exception) -> str:
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)


def upsert(connection: Connection, table: Any) -> Any:
    """Return the dialect's ``INSERT`` for a table, which knows ``on_conflict_do_nothing`` and ``…_do_update``."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def bump_revision(connection: Connection, name: str) -> None:
    """Tell every process that what it caches under ``name`` is out of date (it polls ``read_revisions``)."""
    statement = upsert(connection, revisions).values(name=name, value=1)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["name"], set_={"value": revisions.c.value + 1})
    )


def read_revisions(connection: Connection) -> dict[str, int]:
    """Return every revision counter by name."""
    return {row.name: row.value for row in connection.execute(select(revisions))}
