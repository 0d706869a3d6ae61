"""A process's own line to PostgreSQL for leases: nothing else waits on it, and nothing on it waits for long.

A lease that can't be renewed because every connection is busy would be lost for nothing; so leases have a connection to
themselves, whose every statement is a transaction of its own, with time limits far below a lease's length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app.core.errors import UnavailableError

__all__ = ["LeaseLine"]

R = TypeVar("R")

LIMIT_SECONDS = 2.0
"""For everything asked in one go, a new connection included."""


class LeaseLine:
    """One connection in autocommit mode, made when needed and again when it broke."""

    def __init__(self, url: URL) -> None:
        """Take the parsed URL of a PostgreSQL database. Opens nothing yet."""
        self._engine = create_async_engine(
            url,
            pool_size=1,
            max_overflow=0,
            pool_timeout=LIMIT_SECONDS,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={
                "server_settings": {
                    "statement_timeout": "1500",
                    "lock_timeout": "1000",
                    "application_name": "huoji leases",
                },
                "timeout": LIMIT_SECONDS,
                "command_timeout": LIMIT_SECONDS,
            },
        )
        self._connection: AsyncConnection | None = None
        self._lock = asyncio.Lock()

    async def run(self, function: Callable[[Connection], R]) -> R:
        """Run a function whose statements each commit by themselves; return its result.

        Raises:
            UnavailableError: the database didn't answer in time.
        """
        async with self._lock:
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    if self._connection is None:
                        self._connection = await self._engine.connect()
                    return await self._connection.run_sync(function)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                await self._drop()
                raise UnavailableError("the database did not answer in time", retry_after=1) from error
            except BaseException:
                # Cancelled in the middle of a statement: nobody knows what would come as the next one's answer.
                await self._drop()
                raise

    async def close(self) -> None:
        """Let go of the connection."""
        await self._drop()
        await self._engine.dispose()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            # Whatever state it is in, it isn't used again; the next call makes another.
            await connection.invalidate()
            await connection.close()
        except (SQLAlchemyError, OSError, TimeoutError):
            pass
