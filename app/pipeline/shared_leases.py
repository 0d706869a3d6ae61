"""Partitions shared between the processes on one PostgreSQL database.

Each process renews its lease once a second, gives up what it has above its share, and takes what is free; the statements
are in ``app.storage.leases``.

A process is *sure* of its partitions until its last renewal's start plus the lease's length less a margin, by its own
monotonic clock. After that nothing of them leaves for a marketplace. Commits need no such care: the database refuses
them once the partition has another epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Set
from typing import Any

import structlog
from sqlalchemy import Connection

from app import __version__
from app.bus.base import LEASES, Bus
from app.core.clock import Clock
from app.core.crashpoints import points
from app.core.errors import UnavailableError
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from app.pipeline.leases import LeaseHolder
from app.pipeline.place import Place
from app.storage import leases as rows
from app.storage.lease_line import LeaseLine
from app.storage.leases import PARTITIONS, Holding, ProcessRow

__all__ = ["ALONE_SECONDS", "LEASE_SECONDS", "SharedLeases"]

log = structlog.get_logger(__name__)

LEASE_SECONDS = 4.0
"""A process that doesn't renew for this long loses its partitions to the first that looks."""

MARGIN_SECONDS = 0.5
"""How much earlier it stops being sure of them itself: clocks of two machines may run at slightly different rates."""

TICK_SECONDS = 1.0
RETRY_SECONDS = 0.25
START_SECONDS = 0.05
DRAIN_SECONDS = 3.0
"""How long partitions given up for the others' sake may take to finish what is under way; later ones are kept."""

QUICK_SECONDS = 0.5
"""What is finished within this time is handed over at once, without waiting for the rest."""

ALONE_SECONDS = 1.0
"""How long a process goes on looking for what others write after the last of them has gone."""

KEPT_SECONDS = 10.0
"""How long a partition that took too long is left alone: its conversations shouldn't wait again and again."""


class SharedLeases:
    """One of several processes on PostgreSQL, or the only one so far."""

    def __init__(
        self,
        *,
        line: LeaseLine,
        clock: Clock,
        ids: SystemIds,
        metrics: Metrics,
        bus: Bus,
        place: Place,
        on_shared: Callable[[], None] = lambda: None,
    ) -> None:
        """``clock`` must be the machine's own, since leases run by the database's time.

        ``on_shared`` is called when the first other process is seen: from now on others may store what is this one's.
        """
        self._on_shared = on_shared
        self._line = line
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._bus = bus
        self._place = place
        self._holder: LeaseHolder | None = None
        self.epochs: dict[int, int] = {}
        self.is_shared = False
        self._id: str | None = None
        self._joined = 0
        self._knows = 0
        self._is_known = False
        self._is_leaving = False
        self._sure_until = -math.inf
        self._has_failed = False
        self._giving_up: set[int] = set()
        self._kept_until: dict[int, float] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last_look: asyncio.Task[None] | None = None
        bus.subscribe(LEASES, lambda _payload: self._wake.set())

    @property
    def process_id(self) -> str | None:
        """This process's id among the others; None while it has none."""
        return self._id

    def is_member(self) -> bool:
        return self._is_known and self._clock.monotonic() < self._sure_until

    def require_living(self, connection: Connection) -> None:
        # Whoever doesn't know of it yet takes itself to be alone.
        rows.require_living(connection, self._id if self._is_known else None)

    def holds(self, partition: int) -> bool:
        return (
            partition in self.epochs
            and partition not in self._giving_up
            and self._clock.monotonic() < self._sure_until
        )

    def fenced(self, partition: int) -> None:
        self._metrics.fenced_writes.inc()
        log.warning("lease.fenced", partition=partition)
        self._wake.set()

    async def start(self, holder: LeaseHolder) -> None:
        """Join the others; return once they know of this process.

        Raises:
            UnavailableError: the database didn't answer.
        """
        self._holder = holder
        while True:
            await self.tick()
            if self.is_member():
                break
            # A peer that is dead or stalled will never know: its lease runs out instead.
            await self._clock.sleep(START_SECONDS)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="leases")

    async def stop(self, seconds: float) -> None:
        holder = self._holder
        self._is_leaving = True
        if holder is not None and self._id is not None:
            with contextlib.suppress(UnavailableError):
                process_id = self._id
                await self._line.run(lambda connection: rows.mark_leaving(connection, process_id))
            until = self._clock.monotonic() + seconds
            await self._hand_over(holder, min(QUICK_SECONDS, seconds))
            if self.epochs:
                await self._hand_over(holder, max(0.0, until - self._clock.monotonic()))
        for task in (self._task, self._last_look, *self._tasks):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._lose(set(self.epochs), "stopping")
        if self._id is not None:
            process_id = self._id
            with contextlib.suppress(UnavailableError):
                await self._line.run(lambda connection: rows.leave(connection, process_id))
                log.info("lease.left", process=process_id)
            self._bus.publish(LEASES)
        self._is_known = False
        self._sure_until = -math.inf
        await self._line.close()

    async def _hand_over(self, holder: LeaseHolder, seconds: float) -> None:
        self._giving_up |= set(self.epochs)
        drained = await holder.drained(frozenset(self.epochs), seconds)
        with contextlib.suppress(UnavailableError):
            await self._release(drained & set(self.epochs))

    async def _run(self) -> None:
        wait = TICK_SECONDS
        while True:
            await self._pause(wait)
            try:
                await self.tick()
                wait = TICK_SECONDS if self._id is not None else 0.0
                self._has_failed = False
            except UnavailableError as problem:
                wait = RETRY_SECONDS
                if not self._has_failed:
                    self._has_failed = True
                    log.warning("lease.not_renewed", sure_for=self._sure_seconds(), reason=problem.message)
            except Exception as problem:
                wait = RETRY_SECONDS
                log.error("lease.tick_failed", exc_info=problem)

    async def _pause(self, seconds: float) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleeper, waker), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
        self._wake.clear()

    def _sure_seconds(self) -> float:
        return round(max(0.0, self._sure_until - self._clock.monotonic()), 2)

    async def tick(self) -> None:
        """Renew the lease, see who else is there, bury the dead, give and take partitions.

        Raises:
            UnavailableError: the database didn't answer in time.
        """
        if self._id is None:
            await self._join()
        process_id = self._id
        assert process_id is not None
        # In this order: an owner that isn't among the processes read later has gone for good, its id never comes back.
        holdings = await self._line.run(rows.read_holdings)
        processes = await self._line.run(rows.read_processes)
        self._knows = max((row.joined for row in processes), default=self._joined)
        if any(row.id != process_id for row in processes):
            # Before the renewal that tells them so: whoever reads that this process knows of it may rely on it.
            was_shared, self.is_shared = self.is_shared, True
            if not was_shared:
                self._on_shared()
        began = self._clock.monotonic()
        knows = self._knows
        if not await self._line.run(
            lambda connection: rows.renew(
                connection, process_id, knows=knows, lease_ms=round(LEASE_SECONDS * 1000)
            )
        ):
            self._declared_dead(process_id)
            return
        self._sure_until = began + LEASE_SECONDS - MARGIN_SECONDS
        processes = await self._bury(process_id, processes)
        self._note_peers(process_id, processes)
        free = await self._free(holdings, {row.id for row in processes})
        await self._compare(process_id, holdings)
        if not self._is_leaving:
            await self._share(process_id, processes, free)

    async def _join(self) -> None:
        place = self._place
        process_id = f"{place.host}:{place.pid}:{self._ids.token(6)}"
        began = self._clock.monotonic()
        self._joined, node = await self._line.run(
            lambda connection: rows.register(
                connection, process_id, host=place.host, pid=place.pid, place=place.identity,
                version=__version__, lease_ms=round(LEASE_SECONDS * 1000),
            )
        )  # fmt: skip
        self._ids.use_node(node)
        self._id = process_id
        self._is_known = False
        self._sure_until = began + LEASE_SECONDS - MARGIN_SECONDS
        log.info("lease.joined", process=process_id)
        self._bus.publish(LEASES)

    def _declared_dead(self, process_id: str) -> None:
        """Everything it had may be others' by now: begin again, as a process that nobody knows."""
        log.warning("lease.expired", process=process_id, partitions=len(self.epochs))
        self._id = None
        self._is_known = False
        self._sure_until = -math.inf
        self._lose(set(self.epochs), "expired")

    async def _bury(self, process_id: str, processes: list[ProcessRow]) -> list[ProcessRow]:
        others = [row for row in processes if row.id != process_id]
        dead = [row.id for row in others if self._place.is_dead(row.place)]
        if not dead and all(row.remaining_ms >= 0 for row in others):
            return processes
        buried = set(await self._line.run(lambda connection: rows.bury_expired(connection, dead=dead)))
        for row in processes:
            if row.id in buried:
                log.warning("lease.process_lost", process=row.id, remaining_ms=row.remaining_ms)
        return [row for row in processes if row.id not in buried]

    def _note_peers(self, process_id: str, processes: list[ProcessRow]) -> None:
        others = [row for row in processes if row.id != process_id]
        self._metrics.processes.set(len(others) + 1)
        # Whoever came later, or is just coming, sees this process before it does anything.
        self._is_known = all(row.knows >= self._joined for row in others if 0 < row.joined < self._joined)
        if others:
            if self._last_look is not None:
                self._last_look.cancel()
                self._last_look = None
        elif self.is_shared and self._last_look is None and self._is_known:
            self._last_look = asyncio.get_running_loop().create_task(self._look_once_more())

    async def _look_once_more(self) -> None:
        """What the others stored last must be at hand before this process stops looking for what others store."""
        assert self._holder is not None
        # Replies that were stored while there were others are old by then, and looked at before they leave.
        await self._clock.sleep(ALONE_SECONDS)
        try:
            await self._holder.caught_up()
        except UnavailableError:
            self._last_look = None
            return
        self.is_shared = False
        self._last_look = None

    async def _free(self, holdings: Mapping[int, Holding], present: Set[str]) -> int:
        """Free what nobody living holds; return how many partitions are free."""
        free = sum(not holding.owner for holding in holdings.values())
        gone = {holding.owner for holding in holdings.values() if holding.owner} - present
        if gone:
            free += await self._line.run(lambda connection: rows.free_orphans(connection, gone))
        return free

    async def _compare(self, process_id: str, holdings: Mapping[int, Holding]) -> None:
        """Drop what the database says is another's; give back what it says is ours and we don't know of."""
        lost = {
            partition
            for partition, epoch in self.epochs.items()
            if holdings.get(partition) != Holding(process_id, epoch)
        }
        self._lose(lost, "taken")
        strays = {
            partition: holding.epoch
            for partition, holding in holdings.items()
            if holding.owner == process_id and partition not in self.epochs
        }
        if strays:
            # A claim whose answer was lost: taken anew under another epoch, it is certain what is written under which.
            await self._line.run(lambda connection: rows.release(connection, process_id, strays))

    async def _share(self, process_id: str, processes: list[ProcessRow], free: int) -> None:
        active = max(1, sum(row.is_active for row in processes))
        share = math.ceil(PARTITIONS / active)
        kept = set(self.epochs) - self._giving_up
        if len(kept) > share:
            now = self._clock.monotonic()
            idle = sorted((one for one in kept if self._kept_until.get(one, 0.0) <= now), reverse=True)
            self._give_up(set(idle[: len(kept) - share]))
        elif free and len(kept) < share:
            room = share - len(kept)
            taken = await self._line.run(lambda connection: rows.claim(connection, process_id, limit=room))
            if taken:
                points.reach("after_claim")
                self._gain(taken)

    def _gain(self, taken: Mapping[int, int]) -> None:
        self.epochs.update(taken)
        self._changed("gained", taken.keys(), "claimed")
        assert self._holder is not None
        self._holder.gained(taken.keys())

    def _lose(self, partitions: Set[int], why: str) -> None:
        if not partitions:
            return
        for partition in partitions:
            del self.epochs[partition]
        self._giving_up -= partitions
        self._changed("lost", partitions, why)
        if self._holder is not None:
            self._holder.lost(partitions)

    def _give_up(self, partitions: set[int]) -> None:
        if not partitions:
            return
        self._giving_up |= partitions
        task = asyncio.get_running_loop().create_task(self._drain(partitions))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, partitions: set[int]) -> None:
        holder = self._holder
        assert holder is not None
        try:
            for seconds in (QUICK_SECONDS, DRAIN_SECONDS):
                mine = partitions & set(self.epochs)
                if mine:
                    await self._release(await holder.drained(mine, seconds) & set(self.epochs))
        except UnavailableError as problem:
            log.warning("lease.not_released", reason=problem.message)
        finally:
            if not self._is_leaving:
                kept = partitions & set(self.epochs)
                self._giving_up -= partitions
                if kept:
                    self._kept_until.update(dict.fromkeys(kept, self._clock.monotonic() + KEPT_SECONDS))
                    holder.resumed(kept)

    async def _release(self, partitions: Set[int]) -> None:
        if not partitions:
            return
        points.reach("before_release")
        process_id = self._id
        given = {partition: self.epochs.pop(partition) for partition in partitions}
        self._giving_up -= partitions
        self._changed("released", partitions, "shared" if not self._is_leaving else "stopping")
        assert self._holder is not None
        self._holder.lost(partitions)
        if process_id is not None:
            await self._line.run(lambda connection: rows.release(connection, process_id, given))
        self._bus.publish(LEASES)

    def _changed(self, change: str, partitions: Set[int], why: str) -> None:
        self._metrics.lease_changes.labels(change).inc(len(partitions))
        self._metrics.partitions_owned.set(len(self.epochs))
        log.info(f"lease.{change}", why=why, partitions=sorted(partitions), owned=len(self.epochs))
