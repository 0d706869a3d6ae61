"""SQLite's one writer: statements on the event loop, the commit with its fsync there too while the disk is quick.

Statements of a small batch are CPU time wherever they run. In a thread of their own they would fight the event loop
for the interpreter's lock at every row, which costs both more than the statements themselves. What must not happen on
the loop is waiting for the disk, and that is the commit: as soon as one takes longer than handing it to a thread and
back does, commits go to a thread for a while.

Transactions begin and end at the driver. SQLAlchemy's connection serves the statements inside them; what it believes of
a transaction is brought to an end with each.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from sqlalchemy import URL, Connection
from sqlalchemy.exc import SQLAlchemyError

from app.core.clock import SystemClock
from app.storage.damage import DamagedError, damage_in
from app.storage.engines import BUSY_TIMEOUT_MS, make_sync_writer_engine
from app.storage.hot import driver_connection, driver_error

__all__ = ["EmbeddedWriter"]

log = structlog.get_logger(__name__)

_LOCKED_PAUSE = 0.005
"""Seconds between two tries to get the write lock while another process (a command, a backup) has it."""

QUICK_SECONDS = 0.001
"""A commit up to this long may run on the event loop: waking a thread and coming back takes a fifth of it in CPU."""

QUICK_IN_A_ROW = 32
"""So many quick commits in a row bring them back onto the loop."""

_BEGIN = "BEGIN IMMEDIATE"
"""Takes the write lock at once, so that a read inside the transaction can't go stale."""


class EmbeddedWriter:
    """Runs functions in transactions of one connection, one at a time."""

    def __init__(self, url: URL, *, monotonic: Callable[[], float] | None = None) -> None:
        """Take the database's URL, and what times commits, in seconds. Opens nothing yet."""
        self._monotonic = monotonic or SystemClock().monotonic
        # A disk is slow until it has shown otherwise.
        self._quick_commits = 0
        self._engine = make_sync_writer_engine(url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._connection: Connection | None = None
        self._is_damaged = False

    @property
    def is_damaged(self) -> bool:
        """Whether the file turned out to be damaged; nothing has been written since, or will be."""
        return self._is_damaged

    def refuse_if_damaged(self, error: Exception) -> None:
        """Stop writing for good when an error, of a write or of a read elsewhere, means a damaged file.

        Raises:
            DamagedError: it does.
        """
        damage = damage_in(error)
        if damage is None:
            return
        if not self._is_damaged:
            self._is_damaged = True
            log.error(
                "storage.damaged",
                reason=damage,
                effect="nothing is written any more; reading goes on as far as it can",
                advice="huoji doctor says what to do",
            )
        raise DamagedError from error

    async def run(self, function: Callable[[Connection], Any]) -> Any:
        """Run a function in a transaction; return its result once it is on disk.

        Raises:
            SQLAlchemyError: the database didn't take it (locked for long, full, read-only); nothing was written.
            DamagedError: the file is damaged; nothing was written, or will be.
        """
        if self._is_damaged:
            raise DamagedError
        try:
            return await self._run(function)
        except SQLAlchemyError as error:
            self.refuse_if_damaged(error)
            raise

    async def _run(self, function: Callable[[Connection], Any]) -> Any:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._engine.connect()
        driver = driver_connection(connection)
        await self._begin(connection, driver)
        try:
            result = function(connection)
        except BaseException:
            self._roll_back(connection, driver)
            raise
        try:
            await self._commit(driver)
        except sqlite3.Error as error:
            self._roll_back(connection, driver)
            raise driver_error(connection, error, "COMMIT") from error
        finally:
            if connection.in_transaction():
                connection.commit()
        return result

    def close(self) -> None:
        """Let go of the connection and the thread."""
        self._thread.shutdown()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()

    async def _begin(self, connection: Connection, driver: sqlite3.Connection) -> None:
        """Take the write lock. Another process may have it for a moment: wait for that without blocking the loop."""
        tries = BUSY_TIMEOUT_MS / 1000 / _LOCKED_PAUSE
        while True:
            try:
                driver.execute(_BEGIN)
                return
            except sqlite3.Error as error:
                tries -= 1
                if tries <= 0 or "locked" not in str(error):
                    raise driver_error(connection, error, _BEGIN) from error
            await asyncio.sleep(_LOCKED_PAUSE)

    async def _commit(self, driver: sqlite3.Connection) -> None:
        if self._quick_commits >= QUICK_IN_A_ROW:
            self._timed_commit(driver)
            return
        commit = asyncio.get_running_loop().run_in_executor(self._thread, self._timed_commit, driver)
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            # The commit goes on in its thread, and nobody may touch the connection before it has ended.
            await asyncio.wait((commit,))
            raise

    def _timed_commit(self, driver: sqlite3.Connection) -> None:
        started = self._monotonic()
        driver.commit()
        is_quick = self._monotonic() - started <= QUICK_SECONDS
        self._quick_commits = self._quick_commits + 1 if is_quick else 0

    def _roll_back(self, connection: Connection, driver: sqlite3.Connection) -> None:
        try:
            driver.rollback()
            connection.rollback()
        except (sqlite3.Error, SQLAlchemyError):
            # The connection is beyond use (its file is gone, the disk fails): the next transaction opens another.
            if self._connection is not None:
                self._connection.invalidate()
                self._connection.close()
                self._connection = None
