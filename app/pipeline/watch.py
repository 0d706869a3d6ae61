"""Looks once a second whether another process changed what this one has at hand: accounts, shops, knowledge, outbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import structlog

from app.core.clock import Clock
from app.core.errors import HuojiError
from app.storage.database import Database, read_revisions

__all__ = ["RevisionWatch"]

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.7
"""A change made by the command line is in service within 2 s. Source: the contracts page, section 1."""

Refresh = Callable[[], Awaitable[object]]


class RevisionWatch:
    """Calls a refresh for every revision that moved. One small read a poll, whatever there is to watch."""

    def __init__(self, *, database: Database, clock: Clock, refreshes: Mapping[str, Refresh]) -> None:
        """``refreshes`` by revision name; those of one name run one after the other."""
        self._database = database
        self._clock = clock
        self._refreshes = refreshes
        self._seen: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Note the revisions of now (the caller has just read everything) and begin watching."""
        self._seen = await self._database.read(read_revisions)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="revision-watch")

    async def stop(self) -> None:
        """End watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(POLL_SECONDS)
            try:
                found = await self._database.read(read_revisions)
                for name, value in found.items():
                    if value != self._seen.get(name) and name in self._refreshes:
                        await self._refreshes[name]()
                    self._seen[name] = value
            except HuojiError as error:
                # What is at hand stays in service; the next poll tries again.
                log.warning("watch.refresh_failed", code=error.code, reason=error.message)
