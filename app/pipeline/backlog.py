"""From the stored inbox into lanes: what this process stored itself, and what only the database knows of.

Three things make it look there: partitions just taken over, hints that another process stored something, and the clock
(once a second beside other processes, else every 15 s). A look takes the ids of everything open in one snapshot, and
pushes what no lane knows in the order of storing. A message acked before another was stored is in every snapshot that
has the other, so lanes are fed in ack order whoever stored what.

While partitions just taken over are being read, what arrives for them is acked and left to the reader; what arrives
during its last look is handed over right after it. So nothing overtakes an older message of its conversation, and the
reader catches up however fast messages come in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT, SMALLINT

from app.bus.base import INBOX, Bus
from app.bus.polling import poll_seconds
from app.bus.wakeups import Wakeups, partitions_of
from app.channels.base import ChannelAdapter
from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.core.tracing import Trail, trace_id_of, traced
from app.domain.delivery import Account, RawDelivery
from app.domain.messages import EventKind, InboundEvent
from app.pipeline.inbox import Directory, InboxItem, InboxResult
from app.pipeline.lanes import Lanes
from app.storage.database import Database
from app.storage.tables import inbox

__all__ = ["Backlog", "open_ids", "open_rows"]

log = structlog.get_logger(__name__)
trail = Trail(__name__)

PAGE = 500
MOST_WAITING = 10_000
"""Events held in lanes at once while partitions taken over are worked off; the rest waits in the database."""

SWEEP_SECONDS = 15.0
"""How often a process by itself looks for open rows that no lane knows (a lane that broke off)."""

RETRY_SECONDS = 0.5


class Backlog:
    """Feeds the lanes."""

    def __init__(
        self,
        *,
        database: Database,
        directory: Directory,
        lanes: Lanes,
        clock: Clock,
        bus: Bus,
        is_shared: Callable[[], bool],
        epochs: Mapping[int, int],
    ) -> None:
        """``is_shared``: whether other processes may store events; ``epochs``: the partitions that are this one's."""
        self._database = database
        self._directory = directory
        self._lanes = lanes
        self._clock = clock
        self._bus = bus
        self._is_shared = is_shared
        self._epochs = epochs
        self._live: set[int] = set()
        self._fresh: set[int] = set()
        self._expected: set[int] = set()
        self._arrived: list[tuple[InboxItem, InboxResult]] = []
        self._is_collecting = False
        self._gains = asyncio.Event()
        self._wakeups = Wakeups(clock)
        self._looking = asyncio.Lock()
        self._orphans: set[int] = set()
        self._tasks: list[asyncio.Task[None]] = []
        bus.subscribe(INBOX, self.hinted)

    @property
    def is_live(self) -> bool:
        """Whether everything older is in its lane, so that arrivals go straight to theirs."""
        return not self._fresh and not self._expected and bool(self._tasks)

    def start(self) -> None:
        """Begin reading what is open, then keep watch."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._catch_up(), name="backlog"),
            loop.create_task(self._watch(), name="backlog-watch"),
        ]

    async def stop(self) -> None:
        """End; nothing is lost, since every row stays open until it is worked off."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def expect(self, partitions: Set[int]) -> None:
        """Know of partitions that were just taken over, and can't be begun with yet."""
        self._expected |= partitions
        self._live -= partitions

    def gained(self, partitions: Set[int]) -> None:
        """Read everything open in partitions that were just taken over."""
        self._expected -= partitions
        self._live -= partitions
        self._fresh |= partitions
        self._gains.set()

    def lost(self, partitions: Set[int]) -> None:
        """Leave partitions to others (or to themselves, while they are drained)."""
        self._expected -= partitions
        self._fresh -= partitions
        self._live -= partitions

    def hinted(self, payload: str) -> None:
        """Hear that another process stored events; look, if they are for this one."""
        wanted = partitions_of(payload)
        if wanted is None or not wanted.isdisjoint(self._live):
            self._wakeups.wake(wanted)

    def stored(self, item: InboxItem, result: InboxResult) -> None:
        """Hear of an event that this process stored, in the order of storing."""
        partition = item.partition
        if partition in self._live:
            self._hand_over(item, result)
        elif partition in self._fresh:
            if self._is_collecting:
                self._arrived.append((item, result))
        elif partition not in self._expected:
            self._bus.publish(INBOX, str(partition))

    async def look(self) -> None:
        """Look for everything open in the partitions at work now; return when it is in its lanes.

        Raises:
            UnavailableError: the database didn't answer.
        """
        await self._look(frozenset(self._live))

    def _hand_over(self, item: InboxItem, result: InboxResult) -> None:
        for row in result.earlier:
            # Stored by another process before this one: its conversation's turn comes first.
            if self._lanes.is_new(row["id"], result.looked_at):
                self._push(row)
        self._lanes.push(item, result)

    # --- partitions just taken over ---

    async def _catch_up(self) -> None:
        while True:
            if not self._fresh:
                self._gains.clear()
                await self._gains.wait()
            try:
                await self._catch_up_once()
            except UnavailableError:
                await self._clock.sleep(RETRY_SECONDS)
            except Exception as error:
                log.error("backlog.failed", exc_info=error)
                await self._clock.sleep(RETRY_SECONDS)

    async def _catch_up_once(self) -> None:
        taken = {partition: self._epochs.get(partition) for partition in self._fresh}
        # Whatever arrived up to here is committed, so the next snapshot has it.
        self._arrived.clear()
        self._is_collecting = True
        began = self._clock.monotonic()
        ids = await self._open_ids(taken.keys())
        if len(ids) > PAGE:
            # It will take a while: what arrives meanwhile is left to a later snapshot.
            self._is_collecting = False
            self._arrived.clear()
        for start in range(0, len(ids), PAGE):
            while self._lanes.waiting >= MOST_WAITING:
                await self._clock.sleep(0.05)
            await self._take(ids[start : start + PAGE], self._fresh)
        if not self._is_collecting:
            return
        # Everything older is in its lane; what was stored since the snapshot follows, in its own order, and from here
        # on arrivals go straight to theirs. A lane ignores what it has already.
        live = {
            partition
            for partition, epoch in taken.items()
            if partition in self._fresh and self._epochs.get(partition) == epoch
        }
        self._fresh -= live
        self._live |= live
        arrived, self._arrived = self._arrived, []
        for item, result in arrived:
            if item.partition in live and self._lanes.is_new(item.id, began):
                self._hand_over(item, result)
        self._is_collecting = False
        if self._is_shared():
            # Others may have stored something while this one was reading, and their hints went by.
            self._wakeups.wake(live)

    # --- partitions at work ---

    async def _watch(self) -> None:
        while True:
            wanted = await self._wakeups.wait(poll_seconds(self._bus) if self._is_shared() else SWEEP_SECONDS)
            if wanted is None:
                self._orphans.clear()
            partitions = frozenset(self._live if wanted is None else self._live & wanted)
            began = self._clock.monotonic()
            try:
                await self._look(partitions)
            except UnavailableError:
                await self._clock.sleep(RETRY_SECONDS)
                self._wakeups.wake(wanted)
            except Exception as error:
                log.error("backlog.failed", exc_info=error)
            # Looking never takes more than a small share of the time, however many hints come.
            self._wakeups.rest(self._clock.monotonic() - began)

    async def _look(self, partitions: Set[int]) -> None:
        if not partitions:
            return
        async with self._looking:
            for_lanes = await self._open_ids(partitions)
            for start in range(0, len(for_lanes), PAGE):
                await self._take(for_lanes[start : start + PAGE], self._live)

    async def _open_ids(self, partitions: Set[int]) -> list[int]:
        """Return the ids of open rows that no lane knows, in the order of storing."""
        began = self._clock.monotonic()
        ids = await self._database.read(lambda connection: open_ids(connection, partitions))
        return [one for one in ids if self._lanes.is_new(one, began) and one not in self._orphans]

    async def _take(self, ids: Sequence[int], among: Set[int]) -> None:
        """Push rows, in the order given, as far as they are still open and in a partition that is being fed."""
        began = self._clock.monotonic()
        before = dict(self._epochs)
        rows = await self._database.read(lambda connection: open_rows(connection, ids))
        for one in ids:
            row = rows.get(one)
            if row is None or row["partition"] not in among:
                continue
            epoch = self._epochs.get(row["partition"])
            # Given away and taken again meanwhile, what was open then may be done now.
            if epoch is not None and epoch == before.get(row["partition"]) and self._lanes.is_new(one, began):
                self._push(row)

    def _push(self, row: Mapping[str, Any]) -> None:
        account = self._directory.account(row["account_id"])
        if account is None:
            self._orphans.add(row["id"])
            return
        try:
            event = _event_of(self._directory.adapter(account), account, row)
        except Exception as error:
            # One body that an adapter chokes on must not keep a whole partition waiting.
            log.error("backlog.unreadable", inbox_id=row["id"], account_id=account.id, exc_info=error)
            self._orphans.add(row["id"])
            return
        item = InboxItem(
            id=row["id"],
            account_id=row["account_id"],
            shop_id=account.shop_id,
            channel=row["channel"],
            event=event,
            lane_key=row["lane_key"],
            partition=row["partition"],
            # Another machine's clock may be ahead; nobody waits for the end of a burst that began tomorrow.
            received_at_ms=min(row["received_at_ms"], self._clock.now_ms()),
            headers=orjson.loads(row["headers"]),
            body=bytes(row["body"]),
            tries=row["tries"],
        )
        if trail.is_followed:
            trail.note(
                "backlog.taken",
                (item.trace_id,),
                inbox_id=item.id,
                partition=item.partition,
                tries=item.tries,
            )
        self._lanes.push(item)


def _event_of(adapter: ChannelAdapter, account: Account, row: Mapping[str, Any]) -> InboundEvent:
    """Parse a stored body again; the same bytes give the same events."""
    events = adapter.parse(RawDelivery(orjson.loads(row["headers"]), bytes(row["body"])))
    for event in events:
        if event.dedupe_key == row["dedupe_key"]:
            return event
    # A newer version of the adapter reads these bytes differently: whatever it says now is what we know.
    log.warning("backlog.reads_differently", **_named(row), account_id=account.id)
    return events[0] if events else InboundEvent(kind=EventKind.IGNORED, dedupe_key=row["dedupe_key"])


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields by which log lines about a stored event are found."""
    return {**traced((trace_id_of(orjson.loads(row["headers"]), row["id"]),)), "inbox_id": row["id"]}


_OPEN_IDS = (
    select(inbox.c.id)
    .where(inbox.c.state == "open", inbox.c.partition.in_(bindparam("partitions", expanding=True)))
    .order_by(inbox.c.id)
)
# One row with an array: a tenth of what as many rows would cost. Rows without a number are from before there were any.
_OPEN_IDS_ARRAY = text(
    "SELECT array_agg(id ORDER BY seq NULLS FIRST, id) FROM inbox"
    " WHERE state = 'open' AND partition = ANY(:partitions)"
).bindparams(bindparam("partitions", type_=ARRAY(SMALLINT)))
_ROWS = select(inbox).where(inbox.c.state == "open", inbox.c.id.in_(bindparam("ids", expanding=True)))
_ROWS_ARRAY = select(inbox).where(
    inbox.c.state == "open", inbox.c.id == bindparam("ids", type_=ARRAY(BIGINT)).any_()
)


def open_ids(connection: Connection, partitions: Set[int]) -> Sequence[int]:
    """Return the ids of all open events of some partitions, in the order of storing, as of one snapshot."""
    values = {"partitions": sorted(partitions)}
    if connection.dialect.name == "postgresql":
        return connection.execute(_OPEN_IDS_ARRAY, values).scalar() or []
    return connection.execute(_OPEN_IDS, values).scalars().all()


def open_rows(connection: Connection, ids: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
    """Return those of some events that are still open, by id."""
    statement = _ROWS_ARRAY if connection.dialect.name == "postgresql" else _ROWS
    return {row["id"]: dict(row) for row in connection.execute(statement, {"ids": list(ids)}).mappings()}
