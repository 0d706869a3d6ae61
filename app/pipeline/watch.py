"""Looks whether somebody changed what this process has at hand: accounts, shops, knowledge, people, outbox.

At a hint, and without one often enough that a change is in service everywhere within two seconds.
"""

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

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        refreshes: Mapping[str, Refresh],
        on_moved: Callable[[], None] = lambda: None,
    ) -> None:
        """``refreshes`` by revision name; those of one name run one after the other.

        ``on_moved`` is called when a look that nobody else's hint asked for found that something moved.
        """
        self._database = database
        self._clock = clock
        self._refreshes = refreshes
        self._on_moved = on_moved
        self._seen: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._was_hinted = False
        self._task: asyncio.Task[None] | None = None

    async def note(self) -> None:
        """Note the revisions of now; call it right before everything is read for the first time."""
        self._seen = await self._database.read(read_revisions)

    def start(self) -> None:
        """Begin watching for whatever moves after what was noted."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="revision-watch")

    async def stop(self) -> None:
        """End watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def look(self) -> None:
        """Look now: this process may have changed something."""
        self._wake.set()

    def hinted(self) -> None:
        """Look now: another process has found that something moved."""
        self._was_hinted = True
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wait()
            was_hinted, self._was_hinted = self._was_hinted, False
            try:
                found = await self._database.read(read_revisions)
            except HuojiError as error:
                log.warning("watch.unreadable", code=error.code, reason=error.message)
                continue
            moved = [name for name, value in found.items() if value != self._seen.get(name)]
            if moved and not was_hinted:
                self._on_moved()
            for name in moved:
                await self._refresh(name, found[name])

    async def _refresh(self, name: str, value: int) -> None:
        try:
            if name in self._refreshes:
                await self._refreshes[name]()
        except HuojiError as error:
            # What is at hand stays in service, and the next look tries again.
            log.warning("watch.refresh_failed", revision=name, code=error.code, reason=error.message)
        except Exception:
            # One that can't be read (a bug, a key that is wrong) must not keep the others from being in service.
            log.exception("watch.refresh_failed", revision=name)
            self._seen[name] = value
        else:
            self._seen[name] = value

    async def _wait(self) -> None:
        nap = asyncio.ensure_future(self._clock.sleep(POLL_SECONDS))
        hint = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({nap, hint}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            hint.cancel()
        self._wake.clear()
