"""The knowledge in service in this process: matcher, snapshot and templates, swapped as one.

Whoever decides a turn takes ``current`` once and uses that to its end, so no turn ever sees two versions.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from app.domain.knowledge import Snapshot
from app.intents.fitted import FittedIndex, StoredIndexError, fit
from app.intents.matcher import Matcher
from app.intents.normalise import Normaliser
from app.knowledge import versions
from app.replies.templates import TemplateSet
from app.storage.database import Database

__all__ = ["InService", "LiveKnowledge"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InService:
    """One version, ready for use."""

    version: int
    snapshot: Snapshot
    matcher: Matcher
    templates: TemplateSet


class LiveKnowledge:
    """Holds what is in service. Until ``refresh`` found a version it is empty: every question goes to a human."""

    def __init__(self, database: Database, *, templates: TemplateSet | None = None) -> None:
        """Take the open database, and the process's compiled templates when others share them."""
        self._database = database
        self._templates = templates or TemplateSet()
        self._normaliser = Normaliser()
        self._refreshing = asyncio.Lock()
        empty = Snapshot(version=0, entries=())
        self._current = self._ready(empty, fit(empty, normaliser=self._normaliser))

    @property
    def current(self) -> InService:
        """What is in service now. Cheap; never blocks."""
        return self._current

    async def refresh(self) -> bool:
        """Look which version is in service and load it if it is another; return whether it was.

        Call it at the start, at least once a second, and on a hint. What is in service stays when this fails.

        Raises:
            UnavailableError: the database is away.
        """
        async with self._refreshing:
            version = await self._database.read(versions.current_version)
            if version == self._current.version or version == 0:
                return False
            stored = await self._database.read(lambda connection: versions.read_version(connection, version))
            # Parsing and building take tens of milliseconds: in a thread, while turns go on with the old version.
            self._current = await asyncio.to_thread(self._load, stored)
            log.info("knowledge.in_service", version=version, entries=len(self._current.snapshot.entries))
            return True

    def _load(self, stored: versions.StoredVersion) -> InService:
        snapshot = versions.snapshot_of_version(stored)
        try:
            fitted = FittedIndex.from_bytes(stored.fitted)
        except StoredIndexError as error:
            # Fitted by another release of the program: learn it again, which takes about a second.
            log.warning("knowledge.fitted_again", version=stored.version, reason=str(error))
            fitted = fit(snapshot, normaliser=self._normaliser)
        return self._ready(snapshot, fitted)

    def _ready(self, snapshot: Snapshot, fitted: FittedIndex) -> InService:
        matcher = Matcher(snapshot, fitted, normaliser=self._normaliser)
        return InService(
            version=snapshot.version, snapshot=snapshot, matcher=matcher, templates=self._templates
        )
