"""Which partitions this process owns, as everybody else sees it.

An embedded database has one process, which owns everything (``SoleLeases``); on PostgreSQL they are shared with others
(``app.pipeline.shared_leases``). Nobody else needs to know which of the two it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Protocol

import structlog
from sqlalchemy import Connection

from app.core.clock import Clock
from app.core.metrics import Metrics
from app.storage import leases as rows
from app.storage.database import Database
from app.storage.leases import PARTITIONS

__all__ = ["LeaseHolder", "Leases", "SoleLeases"]

log = structlog.get_logger(__name__)

_ALL = frozenset(range(PARTITIONS))


class LeaseHolder(Protocol):
    """The part of the program that works partitions."""

    def gained(self, partitions: Set[int]) -> None:
        """Begin with partitions: everything open in them is to be worked off."""
        ...

    def lost(self, partitions: Set[int]) -> None:
        """Drop everything of partitions at once: others have them, or will."""
        ...

    async def drained(self, partitions: Set[int], seconds: float) -> Set[int]:
        """Begin nothing new in partitions and wait for what is under way; return those in which nothing is."""
        ...

    def resumed(self, partitions: Set[int]) -> None:
        """Go on with partitions that were to be drained."""
        ...

    async def caught_up(self) -> None:
        """Return when everything that is committed now and open in this process's partitions is at hand.

        Raises:
            UnavailableError: the database didn't answer.
        """
        ...


class Leases(Protocol):
    """What everybody else sees of the leases."""

    @property
    def epochs(self) -> Mapping[int, int]:
        """The partitions owned, with the epoch that every write of theirs has to name. Changes as they come and go."""
        ...

    @property
    def process_id(self) -> str | None:
        """This process's id in the database; None while it has none. It changes when its lease ran out."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether other processes may store events and messages for this one's partitions."""
        ...

    def is_member(self) -> bool:
        """Whether webhooks may be acked here: the others know of this process, and it is sure of its lease."""
        ...

    def require_living(self, connection: Connection) -> None:
        """Make sure, until a transaction ends, that the others don't take this process for dead.

        Raises:
            UnavailableError: they do.
        """
        ...

    def holds(self, partition: int) -> bool:
        """Whether this process owns a partition, is sure of it, and isn't about to give it up."""
        ...

    def fenced(self, partition: int) -> None:
        """Hear that a write was refused for its epoch."""
        ...

    async def start(self, holder: LeaseHolder) -> None:
        """Take what is due to this process; return when webhooks may be taken."""
        ...

    async def stop(self, seconds: float) -> None:
        """Hand everything over, finishing what is under way within ``seconds``."""
        ...


class SoleLeases:
    """One process on an embedded database: it owns everything, from start to end."""

    is_shared = False

    def __init__(self, *, database: Database, clock: Clock, metrics: Metrics, owner: str) -> None:
        """``owner`` names the process in the database, for people who look there."""
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._owner = owner
        self.epochs: dict[int, int] = {}

    @property
    def process_id(self) -> str:
        return self._owner

    def is_member(self) -> bool:
        return True

    def require_living(self, connection: Connection) -> None:
        """There are no others."""

    def holds(self, partition: int) -> bool:
        return True

    def fenced(self, partition: int) -> None:
        self._metrics.fenced_writes.inc()
        log.error("lease.fenced", partition=partition)

    async def start(self, holder: LeaseHolder) -> None:
        now_ms = self._clock.now_ms()
        epochs = await self._database.write(
            lambda connection: rows.take_all(connection, self._owner, now_ms=now_ms)
        )
        self.epochs.update(epochs)
        self._metrics.partitions_owned.set(len(epochs))
        holder.gained(_ALL)

    async def stop(self, seconds: float) -> None:
        """There is nobody to hand anything to: what is under way is finished by those who do it."""
