"""Lanes: one conversation at a time and in ack order, conversations beside each other.

A lane exists in memory only while it has something to do. It is fed in the order of storing, and rebuilt from the open
inbox rows when its partition is taken over. Taking the next turn, waiting for the end of a burst, trying again and parking happen here; what a turn
does is the business of ``app.pipeline.turns``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Protocol

import structlog

from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.core.metrics import Metrics
from app.core.recent import Finished
from app.core.tracing import traced
from app.domain.messages import EventKind
from app.pipeline.burst import BurstPart, burst_due
from app.pipeline.commit import StaleTurnError
from app.pipeline.inbox import InboxItem, InboxResult
from app.pipeline.partitions import FencedError
from app.pipeline.records import ConversationRecord

__all__ = ["LaneWorker", "Lanes"]

log = structlog.get_logger(__name__)

LaneKey = tuple[str, str]

CACHED_CONVERSATIONS = 20_000
"""Conversations kept at hand between their turns (about 1 KiB each)."""

MAX_TRIES = 3
"""Failures after which an event is parked. Source: the reliability notes, F32."""

RETRY_SECONDS = (0.05, 0.5)
STORAGE_RETRY_SECONDS = 0.5


class LaneWorker(Protocol):
    """What a lane asks of the turn processor."""

    def is_complete(self, item: InboxItem) -> bool:
        """Whether a message can stand alone (anything that isn't a message can)."""
        ...

    def burst_times(self, item: InboxItem, record: ConversationRecord | None) -> tuple[float, float]:
        """Return quiet time and longest wait, in seconds, for a conversation; (0, 0) to take each by itself."""
        ...

    async def load(self, key: LaneKey) -> ConversationRecord | None:
        """Read a conversation."""
        ...

    async def process(
        self, record: ConversationRecord | None, items: Sequence[InboxItem]
    ) -> ConversationRecord | None:
        """Do one turn and commit it; return the conversation afterwards."""
        ...

    async def park(
        self, record: ConversationRecord | None, items: Sequence[InboxItem], error: Exception
    ) -> ConversationRecord | None:
        """Set events aside that keep failing, and hand the conversation to a human."""
        ...


class _Lane:
    """``record`` is right only while ``is_loaded``; ``changes`` counts changes by others while a turn runs.

    One that ``is_closing`` begins no other turn.
    """

    __slots__ = ("arrived", "changes", "is_closing", "is_loaded", "partition", "queue", "record", "task")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.is_closing = False
        self.queue: deque[InboxItem] = deque()
        self.arrived = asyncio.Event()
        self.record: ConversationRecord | None = None
        self.is_loaded = False
        self.changes = 0
        self.task: asyncio.Task[None] | None = None


class Lanes:
    """Every lane of one process."""

    def __init__(
        self,
        *,
        worker: LaneWorker,
        clock: Clock,
        metrics: Metrics,
        on_fenced: Callable[[int], None],
        is_shared: Callable[[], bool] = lambda: False,
        before_turn: Callable[[ConversationRecord], Awaitable[None]] | None = None,
        cache_size: int = CACHED_CONVERSATIONS,
    ) -> None:
        """``on_fenced`` is called with a partition that turns out to belong to another process.

        ``is_shared``: whether agents may be writing to this one's conversations by way of other processes;
        ``before_turn`` then takes up what they wrote in a conversation, so that nothing leaves ahead of it.
        """
        self._worker = worker
        self._clock = clock
        self._metrics = metrics
        self._on_fenced = on_fenced
        self._is_shared = is_shared
        self._before_turn = before_turn
        self._lanes: dict[LaneKey, _Lane] = {}
        self._records: OrderedDict[LaneKey, ConversationRecord] = OrderedDict()
        self._keys: dict[int, LaneKey] = {}
        self._cache_size = cache_size
        self._known: set[int] = set()
        self._finished = Finished(clock)
        self._stopping = asyncio.Event()

    def is_cached(self, account_id: str, lane_key: str) -> bool:
        """Whether this conversation's record is at hand (in the cache, or in a lane at work)."""
        key = (account_id, lane_key)
        return key in self._records or key in self._lanes

    def knows(self, inbox_id: int) -> bool:
        """Whether an inbox row waits in a lane or is being worked on."""
        return inbox_id in self._known

    def is_new(self, inbox_id: int, seen_at: float) -> bool:
        """Whether an inbox row that a read found open is to be taken up.

        ``seen_at``: when the read began, by the monotonic clock. What was worked off since then is done.
        """
        return inbox_id not in self._known and not self._finished.since(inbox_id, seen_at)

    def oldest_received_ms(self) -> int | None:
        """Return when the oldest event waiting in a lane was received; None when none waits."""
        return min(
            (lane.queue[0].received_at_ms for lane in self._lanes.values() if lane.queue), default=None
        )

    @property
    def waiting(self) -> int:
        """Events taken and not yet worked off."""
        return len(self._known)

    def record_of(self, conversation_id: int) -> ConversationRecord | None:
        """Return a conversation that is at hand, by our id."""
        key = self._keys.get(conversation_id)
        return None if key is None else self._records.get(key)

    def forget(self, conversation_id: int) -> None:
        """Drop what is at hand of a conversation that somebody else changed; it is read anew when needed."""
        key = self._keys.pop(conversation_id, None)
        if key is not None:
            self._records.pop(key, None)
            lane = self._lanes.get(key)
            if lane is not None:
                lane.is_loaded = False
                lane.changes += 1

    def push(self, item: InboxItem, result: InboxResult | None = None) -> None:
        """Take one stored event of a partition that this process owns. Call in the order of storing."""
        if item.id in self._known or self._stopping.is_set():
            return
        self._known.add(item.id)
        key = (item.account_id, item.lane_key)
        if (
            result is not None
            and result.record is not None
            and key not in self._records
            and key not in self._lanes
            and not self._may_have_written(result.record)
        ):
            self._remember(key, result.record)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(item.partition)
            lane.queue.append(item)
            # The inbox looked the conversation up in the transaction that stored the event: no row, no need to look.
            lane.is_loaded = item.load_conversation and result is not None and result.record is None
            lane.task = asyncio.get_running_loop().create_task(self._run(key, lane))
        else:
            lane.queue.append(item)
            lane.arrived.set()

    def _may_have_written(self, record: ConversationRecord) -> bool:
        """Whether an agent may have written to a conversation by way of another process.

        A conversation that never changed hands is at its first version. For any other the worker looks, when it loads
        it, whether something is on its way to the buyer that this process hasn't heard of.
        """
        return record.stored_version > 1 and self._is_shared()

    async def drain(self, partitions: Set[int], seconds: float) -> Set[int]:
        """Begin no more turns in partitions and wait for those under way; return the partitions in which none is."""
        tasks: dict[asyncio.Task[None], int] = {}
        for lane in self._lanes.values():
            if lane.partition in partitions and lane.task is not None:
                lane.is_closing = True
                lane.arrived.set()
                tasks[lane.task] = lane.partition
        late: Set[asyncio.Task[None]] = set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
        return partitions - {tasks[task] for task in late}

    def resume(self, partitions: Set[int]) -> None:
        """Let lanes of partitions go on whose turns took too long to be drained."""
        for lane in self._lanes.values():
            if lane.partition in partitions:
                lane.is_closing = False

    def drop(self, partitions: Set[int]) -> None:
        """Forget everything of partitions that belong to others now; turns under way are broken off."""
        for key in [key for key, lane in self._lanes.items() if lane.partition in partitions]:
            lane = self._lanes.pop(key)
            lane.is_closing = True
            self._known.difference_update(item.id for item in lane.queue)
            lane.queue.clear()
            if lane.task is not None:
                lane.task.cancel()
        for key in [key for key, record in self._records.items() if record.partition in partitions]:
            # The next owner changes it; whoever gets it back reads it anew.
            self._keys.pop(self._records.pop(key).conversation.id, None)

    async def stop(self, seconds: float) -> None:
        """End after the turns that are under way, within ``seconds``; what waits stays open in the inbox."""
        self._stopping.set()
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for lane in self._lanes.values():
            lane.arrived.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _remember(self, key: LaneKey, record: ConversationRecord) -> None:
        self._records[key] = record
        self._records.move_to_end(key)
        self._keys[record.conversation.id] = key
        while len(self._records) > self._cache_size:
            _, oldest = self._records.popitem(last=False)
            self._keys.pop(oldest.conversation.id, None)

    async def _run(self, key: LaneKey, lane: _Lane) -> None:
        try:
            lane.record = self._records.get(key)
            lane.is_loaded = lane.is_loaded or lane.record is not None
            while lane.queue and not lane.is_closing and not self._stopping.is_set():
                if not lane.is_loaded:
                    await self._reload(key, lane)
                count = await self._next_turn(lane)
                if count == 0:
                    return
                items = [lane.queue[index] for index in range(count)]
                if not await self._work_off(key, lane, items):
                    return
                if lane.queue:
                    for item in items:
                        lane.queue.popleft()
                        self._known.discard(item.id)
                for item in items:
                    self._finished.note(item.id)
        except UnavailableError:
            # Not even set aside while this process stops or after it lost the partition; the rows stay open.
            pass
        finally:
            if self._lanes.get(key) is lane:
                del self._lanes[key]
            for item in lane.queue:
                self._known.discard(item.id)

    async def _reload(self, key: LaneKey, lane: _Lane) -> None:
        while True:
            changes = lane.changes
            try:
                record = await self._worker.load(key)
                if record is not None and self._before_turn is not None and self._may_have_written(record):
                    await self._before_turn(record)
            except UnavailableError:
                await self._clock.sleep(STORAGE_RETRY_SECONDS)
                continue
            if changes != lane.changes:
                continue
            if record is not None:
                self._remember(key, record)
            lane.record = record
            lane.is_loaded = True
            return

    async def _next_turn(self, lane: _Lane) -> int:
        """Wait until the head of the queue is due; return how many events make the turn (0: stopping)."""
        while True:
            head = lane.queue[0]
            if head.event.kind is not EventKind.MESSAGE:
                return 1
            quiet, longest = self._worker.burst_times(head, lane.record)
            if quiet <= 0:
                return 1
            if self._is_complete(head):
                return 1
            parts: list[BurstPart] = []
            for item in lane.queue:
                if item.event.kind is not EventKind.MESSAGE:
                    break
                parts.append(BurstPart(item.received_at_ms, self._is_complete(item)))
            due = burst_due(parts, quiet=quiet, longest=longest)
            # The clock may have been set back since the burst began; none lasts longer than this.
            wait = min(due.at_ms - self._clock.now_ms(), round(longest * 1000))
            if wait <= 0 or len(parts) < len(lane.queue) or due.count < len(parts):
                return due.count
            lane.arrived.clear()
            await self._wait(lane, wait / 1000)
            if self._stopping.is_set() or lane.is_closing:
                return 0

    def _is_complete(self, item: InboxItem) -> bool:
        try:
            return self._worker.is_complete(item)
        except Exception:  # noqa: BLE001 - whatever a bug raises, the lane must go on
            # What can't even be looked at needn't wait: its turn fails the same way, and parks it.
            return True

    async def _wait(self, lane: _Lane, seconds: float) -> None:
        arrival = asyncio.ensure_future(lane.arrived.wait())
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((arrival, sleep), return_when=asyncio.FIRST_COMPLETED)
        finally:
            arrival.cancel()
            sleep.cancel()

    async def _work_off(self, key: LaneKey, lane: _Lane, items: list[InboxItem]) -> bool:
        """Do a turn, again where that can help; False when this lane must stop (the partition is lost)."""
        while True:
            if not lane.is_loaded:
                await self._reload(key, lane)
            changes = lane.changes
            try:
                after = await self._worker.process(lane.record, items)
            except StaleTurnError:
                # An agent took or gave back the conversation meanwhile: look at it as it is now.
                lane.is_loaded = False
                continue
            except FencedError:
                self._on_fenced(lane.partition)
                return False
            except UnavailableError:
                if self._stopping.is_set() or lane.is_closing:
                    return False
                await self._clock.sleep(STORAGE_RETRY_SECONDS)
                continue
            except Exception as error:  # noqa: BLE001 - whatever a bug raises, the lane must go on and serve the buyer
                if not await self._failed(items, error):
                    continue
                after = await self._park(key, lane, items, error)
                changes = lane.changes
            if changes == lane.changes:
                if after is not None:
                    self._remember(key, after)
                lane.record = after
            return True

    async def _failed(self, items: list[InboxItem], error: Exception) -> bool:
        """Note a failure; True when it is time to park."""
        for item in items:
            item.tries += 1
        tries = max(item.tries for item in items)
        ids = traced([item.trace_id for item in items])
        log.error("lane.turn_failed", **ids, inbox_id=items[0].id, tries=tries, exc_info=error)
        if tries >= MAX_TRIES:
            return True
        await self._clock.sleep(RETRY_SECONDS[min(tries - 1, len(RETRY_SECONDS) - 1)])
        return False

    async def _park(
        self, key: LaneKey, lane: _Lane, items: list[InboxItem], error: Exception
    ) -> ConversationRecord | None:
        self._metrics.parked.inc(len(items))
        while True:
            await self._reload(key, lane)
            try:
                return await self._worker.park(lane.record, items, error)
            except StaleTurnError:
                continue
            except FencedError:
                self._on_fenced(lane.partition)
                raise
            except UnavailableError:
                if self._stopping.is_set() or lane.is_closing:
                    raise
                await self._clock.sleep(STORAGE_RETRY_SECONDS)
