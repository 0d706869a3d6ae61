"""From the stored outbox to the sender: what this process wrote itself, and what only the database knows of.

A conversation's messages leave in the order in which they were stored. Turns of this process come straight from their
commit. What an agent's command wrote may have been written anywhere: beside other processes it is always read from the
database, in the order of storing, after a hint or once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Protocol

import structlog

from app.bus.base import OUTBOX, Bus
from app.bus.polling import poll_seconds
from app.bus.wakeups import Wakeups, partitions_of
from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.delivery.outbox import OutboxItem, items_by_id, open_ids
from app.storage.database import Database

__all__ = ["OutboxFeed"]

log = structlog.get_logger(__name__)

PAGE = 500
SWEEP_SECONDS = 15.0
"""How often a process by itself looks for open rows that the sender doesn't know."""

RETRY_SECONDS = 0.5


class Sender(Protocol):
    """Who sends the items."""

    def is_new(self, outbox_id: int, seen_at: float) -> bool:
        """Whether a row that a read begun at ``seen_at`` (monotonic) found open is to be taken up."""
        ...

    def enqueued(self, items: Iterable[OutboxItem]) -> None:
        """Take items, each conversation's in order."""
        ...


class OutboxFeed:
    """Feeds the sender."""

    def __init__(
        self,
        *,
        database: Database,
        sender: Sender,
        clock: Clock,
        bus: Bus,
        is_shared: Callable[[], bool],
        epochs: Mapping[int, int],
    ) -> None:
        """``is_shared``: whether other processes may write messages; ``epochs``: the partitions that are this one's."""
        self._database = database
        self._sender = sender
        self._clock = clock
        self._bus = bus
        self._is_shared = is_shared
        self._epochs = epochs
        self._live: set[int] = set()
        self._expected: set[int] = set()
        self._wakeups = Wakeups(clock)
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        bus.subscribe(OUTBOX, self.hinted)

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="outbox-feed")

    async def stop(self) -> None:
        """End; nothing is lost, since every row stays open until it is settled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def take_over(self, partitions: Set[int]) -> None:
        """Hand the sender everything open in partitions that were just taken over.

        Raises:
            UnavailableError: the database didn't answer; call again.
        """
        self._expected |= partitions
        await self._look(partitions)
        self._live |= partitions & self._expected
        self._expected -= partitions

    def lost(self, partitions: Set[int]) -> None:
        """Leave partitions to others (or to themselves, while they are drained)."""
        self._live -= partitions
        self._expected -= partitions

    def committed(self, items: Sequence[OutboxItem]) -> None:
        """Take what a turn of this process wrote. What is of a partition given up meanwhile is left to its owner."""
        for item in items:
            if item.partition in self._live:
                self._sender.enqueued((item,))
            else:
                self._bus.publish(OUTBOX, str(item.partition))

    def written(self, items: Sequence[OutboxItem]) -> None:
        """Take what an agent's command or a script wrote by way of this process."""
        for item in items:
            if item.partition not in self._live:
                self._bus.publish(OUTBOX, str(item.partition))
            elif self._is_shared():
                # Another process may have written to the same buyer a moment ago; the database knows the order.
                self._wakeups.wake({item.partition})
            else:
                self._sender.enqueued((item,))

    def hinted(self, payload: str) -> None:
        """Hear that another process wrote messages; look, if they are for this one."""
        wanted = partitions_of(payload)
        if wanted is None or not wanted.isdisjoint(self._live):
            self._wakeups.wake(wanted)

    async def look(self, partitions: Set[int] | None = None) -> None:
        """Look for everything open in some partitions at work (all of them); return when the sender has it.

        Raises:
            UnavailableError: the database didn't answer.
        """
        await self._look(self._live if partitions is None else self._live & partitions)

    async def _watch(self) -> None:
        while True:
            wanted = await self._wakeups.wait(poll_seconds(self._bus) if self._is_shared() else SWEEP_SECONDS)
            began = self._clock.monotonic()
            try:
                await self.look(wanted)
            except UnavailableError:
                await self._clock.sleep(RETRY_SECONDS)
                self._wakeups.wake(wanted)
            except Exception as error:
                log.error("delivery.feed_failed", exc_info=error)
            self._wakeups.rest(self._clock.monotonic() - began)

    async def _look(self, partitions: Set[int]) -> None:
        if not partitions:
            return
        wanted = sorted(partitions)
        async with self._looking:
            began = self._clock.monotonic()
            before = {partition: self._epochs.get(partition) for partition in wanted}
            ids = await self._database.read(lambda connection: open_ids(connection, wanted))
            unknown = [one for one in ids if self._sender.is_new(one, began)]
            for start in range(0, len(unknown), PAGE):
                page = unknown[start : start + PAGE]
                began = self._clock.monotonic()
                items = await self._database.read(lambda connection, page=page: items_by_id(connection, page))
                self._sender.enqueued(
                    item
                    for item in items
                    if self._is_mine(item.partition, before) and self._sender.is_new(item.id, began)
                )

    def _is_mine(self, partition: int, before: Mapping[int, int | None]) -> bool:
        # Given away and taken again meanwhile, what was open then may be done now.
        epoch = self._epochs.get(partition)
        return (
            epoch is not None
            and epoch == before.get(partition)
            and (partition in self._live or partition in self._expected)
        )
