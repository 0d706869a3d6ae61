"""What follows when partitions come and go: lanes and sender begin with them, finish what is under way, or drop them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Set

import structlog

from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.delivery.feed import OutboxFeed
from app.delivery.service import DeliveryService
from app.pipeline.backlog import Backlog
from app.pipeline.lanes import Lanes

__all__ = ["Ownership"]

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5


class Ownership:
    """The holder of this process's leases."""

    def __init__(
        self,
        *,
        lanes: Lanes,
        backlog: Backlog,
        delivery: DeliveryService,
        feed: OutboxFeed,
        clock: Clock,
        epochs: Callable[[], Mapping[int, int]],
    ) -> None:
        """``epochs`` returns the partitions owned now."""
        self._lanes = lanes
        self._backlog = backlog
        self._delivery = delivery
        self._feed = feed
        self._clock = clock
        self._epochs = epochs
        self._tasks: set[asyncio.Task[None]] = set()

    def gained(self, partitions: Set[int]) -> None:
        """Begin: first what is on its way to buyers, then what they wrote, or it would be answered ahead of that."""
        partitions = frozenset(partitions)
        self._backlog.expect(partitions)
        before = {partition: self._epochs().get(partition) for partition in partitions}
        task = asyncio.get_running_loop().create_task(self._begin(before), name="take-over")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def lost(self, partitions: Set[int]) -> None:
        """Drop everything at once."""
        partitions = frozenset(partitions)
        self._backlog.lost(partitions)
        self._feed.lost(partitions)
        self._lanes.drop(partitions)
        self._delivery.drop(partitions)

    async def drained(self, partitions: Set[int], seconds: float) -> Set[int]:
        """Finish the turns and sends under way; what waits stays stored."""
        partitions = frozenset(partitions)
        until = self._clock.monotonic() + seconds
        self._backlog.lost(partitions)
        lanes = await self._lanes.drain(partitions, seconds)
        self._feed.lost(partitions)
        return lanes & await self._delivery.drain(partitions, max(0.0, until - self._clock.monotonic()))

    def resumed(self, partitions: Set[int]) -> None:
        """Go on: everything open is read anew, since some of it was left to the next owner."""
        self._lanes.resume(partitions)
        self._delivery.resume(partitions)
        self.gained(partitions)

    async def caught_up(self) -> None:
        """Return when everything stored by now is at hand."""
        await self._feed.look()
        await self._backlog.look()

    async def stop(self) -> None:
        """End what was begun."""
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _begin(self, before: Mapping[int, int | None]) -> None:
        while True:
            epochs = self._epochs()
            mine = frozenset(
                partition
                for partition, epoch in before.items()
                if epoch is not None and epochs.get(partition) == epoch
            )
            if not mine:
                return
            try:
                await self._feed.take_over(mine)
            except UnavailableError:
                await self._clock.sleep(RETRY_SECONDS)
                continue
            except Exception as error:
                log.error("lease.not_begun", partitions=len(mine), exc_info=error)
                await self._clock.sleep(RETRY_SECONDS)
                continue
            break
        epochs = self._epochs()
        self._backlog.gained(frozenset(one for one in mine if epochs.get(one) == before[one]))
