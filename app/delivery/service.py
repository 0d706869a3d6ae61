"""The sender: takes outbox items, conversation by conversation in order, until each is delivered or given up.

One message of a conversation is under way at a time; conversations don't wait for each other, and an account that
hangs holds back only itself (a bound on requests under way, and a breaker, an account).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Set
from typing import Any

import structlog
from prometheus_client import Counter

from app.channels.http import OutcomeUnknownError, PeerUnavailableError
from app.core.clock import Clock
from app.core.errors import HuojiError, UnavailableError
from app.core.ids import Ids
from app.core.metrics import Metrics
from app.core.recent import Finished
from app.core.tracing import Trail, traced
from app.delivery.gate import PAUSE_POLL_SECONDS, AccountGate
from app.delivery.marks import DeliveryMark, MarkDeliveries
from app.delivery.outbox import OutboxItem
from app.delivery.ports import Client, DeliveryHooks, Directory, Partitions
from app.delivery.retry import delay_seconds, longest_delay_seconds
from app.domain.delivery import Account, Outcome, Receipt
from app.domain.messages import Author
from app.storage.database import Database
from app.storage.leases import FencedError

__all__ = ["DeliveryService"]

log = structlog.get_logger(__name__)
trail = Trail(__name__)

IN_FLIGHT_PER_ACCOUNT = 64
"""Requests under way to one account: enough for a fast marketplace, few enough not to drown a slow one."""

SEND_TIMEOUT_SECONDS = 15.0
"""Source: the Standard Webhooks advice, 15 to 30 s."""

LEASE_POLL_SECONDS = 0.1

_TOLD = ("sent", "failed", "unconfirmed")
"""Message states that agents hear of; that a bot's message was sent, they do not."""


class DeliveryService:
    """Sends what is in the outbox. One a process; it is told of new items by whoever stored them."""

    def __init__(
        self,
        *,
        database: Database,
        directory: Directory,
        client: Client,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        hooks: DeliveryHooks,
        partitions: Partitions | None = None,
        in_flight_per_account: int = IN_FLIGHT_PER_ACCOUNT,
    ) -> None:
        """Take everything it works with. ``enqueued`` may be called as soon as a loop runs.

        ``partitions``: None where there can be no other process.
        """
        self._database = database
        self._directory = directory
        self._client = client
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._hooks = hooks
        self._mark_operation = MarkDeliveries(hooks.append_events)
        self._lanes: dict[int, deque[OutboxItem]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._known: set[int] = set()
        self._finished = Finished(clock)
        self._partitions = partitions
        self._closing: set[int] = set()
        self._under_way: set[int] = set()
        self._gates: dict[str, AccountGate] = {}
        self._in_flight_per_account = in_flight_per_account
        self._counters: dict[tuple[str, str], Counter] = {}
        self._stopping = asyncio.Event()

    def enqueued(self, items: Iterable[OutboxItem]) -> None:
        """Take items that are committed. An item that is already under way is not taken twice."""
        for item in items:
            if item.id in self._known or self._stopping.is_set():
                continue
            self._known.add(item.id)
            lane = self._lanes.get(item.conversation_id)
            if lane is not None:
                lane.append(item)
                continue
            self._lanes[item.conversation_id] = deque((item,))
            self._tasks[item.conversation_id] = asyncio.create_task(self._work(item.conversation_id))

    def is_new(self, outbox_id: int, seen_at: float) -> bool:
        """Whether a row that a read begun at ``seen_at`` (monotonic) found open is to be taken up."""
        return outbox_id not in self._known and not self._finished.since(outbox_id, seen_at)

    async def drain(self, partitions: Set[int], seconds: float) -> Set[int]:
        """Begin no more sends in partitions and wait for those under way; return the partitions in which none is."""
        self._closing |= partitions
        waiting: list[asyncio.Task[None]] = []
        sending: dict[asyncio.Task[None], int] = {}
        for conversation_id in self._conversations_of(partitions):
            task = self._tasks[conversation_id]
            if conversation_id in self._under_way:
                sending[task] = self._lanes[conversation_id][0].partition
            else:
                # For its time to come, or for a place: nothing has left.
                task.cancel()
                waiting.append(task)
        await asyncio.gather(*waiting, return_exceptions=True)
        late: Set[asyncio.Task[None]] = set()
        if sending:
            _, late = await asyncio.wait(sending, timeout=seconds)
        return partitions - {sending[task] for task in late}

    def resume(self, partitions: Set[int]) -> None:
        """Send for partitions again that were to be drained."""
        self._closing -= partitions

    def drop(self, partitions: Set[int]) -> None:
        """Forget everything of partitions that belong to others now; requests under way are broken off."""
        self._closing -= partitions
        for conversation_id in self._conversations_of(partitions):
            lane = self._lanes.pop(conversation_id)
            self._known.difference_update(item.id for item in lane)
            lane.clear()
            self._tasks.pop(conversation_id).cancel()

    def _conversations_of(self, partitions: Set[int]) -> list[int]:
        return [one for one, lane in self._lanes.items() if lane and lane[0].partition in partitions]

    @property
    def waiting(self) -> int:
        """Messages not yet delivered or given up."""
        return len(self._known)

    @property
    def oldest_created_ms(self) -> int | None:
        """When the message was stored that has been on its way for longest; None when there is none."""
        return min((lane[0].created_at_ms for lane in self._lanes.values() if lane), default=None)

    @property
    def open_breakers(self) -> Set[str]:
        """The accounts whose messages are being held back after repeated failure."""
        return {account_id for account_id, gate in self._gates.items() if gate.breaker.is_open}

    async def stop(self, seconds: float) -> None:
        """Finish what is under way within ``seconds``; what isn't by then stays in the outbox for the next start."""
        self._stopping.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _work(self, conversation_id: int) -> None:
        lane = self._lanes[conversation_id]
        try:
            while lane and lane[0].partition not in self._closing:
                item = lane[0]
                if not await self._deliver(item):
                    return
                if lane:
                    lane.popleft()
                self._known.discard(item.id)
                self._finished.note(item.id)
        finally:
            if self._lanes.get(conversation_id) is lane:
                del self._lanes[conversation_id]
                del self._tasks[conversation_id]
            for item in lane:
                self._known.discard(item.id)

    async def _deliver(self, item: OutboxItem) -> bool:
        """Work on one item until it is settled; False when it isn't this process's any more, or would have to wait
        while that stops."""
        while True:
            try:
                # The time may have been set by another machine, whose clock is ahead, or before this one's was set
                # back. What the peer asked for is waited for by the account.
                wait = min(
                    (item.next_attempt_at_ms - self._clock.now_ms()) / 1000,
                    longest_delay_seconds(item.attempts),
                )
                if wait > 0 and not await self._pause(wait):
                    return False
                settled = await self._step(item)
            except FencedError:
                return False
            except UnavailableError as error:
                # The database is away: what was sent is sent again later under the same key.
                ids = traced(item.trace_ids)
                log.warning("delivery.storage_unavailable", **ids, outbox_id=item.id, code=error.code)
                if not await self._pause(PAUSE_POLL_SECONDS):
                    return False
                continue
            if settled:
                return True
            if self._stopping.is_set() or item.partition in self._closing:
                return False

    async def _step(self, item: OutboxItem) -> bool:
        gate = self._gates.get(item.account_id)
        if gate is None:
            gate = self._gates[item.account_id] = AccountGate(
                self._clock, in_flight=self._in_flight_per_account
            )
        await gate.places.acquire()
        try:
            # All of this is looked at as late as possible: much may have changed in the queue for a place.
            account = self._directory.account(item.account_id)
            if account is None:
                await self._settle(item, "failed", "failed", "account_removed", None)
                return True
            if self._clock.now_ms() > item.deadline_ms:
                await self._settle(item, "failed", "failed", "expired", None)
                return True
            wait = gate.wait_seconds(account) if self._may_send(item) else LEASE_POLL_SECONDS
            if wait <= 0:
                probes = gate.breaker.is_open
                self._under_way.add(item.conversation_id)
                try:
                    return await self._try(item, account, gate)
                finally:
                    self._under_way.discard(item.conversation_id)
                    if probes:
                        gate.breaker.let_go()
        finally:
            gate.places.release()
        await self._pause(wait)
        return False

    def _may_send(self, item: OutboxItem) -> bool:
        return self._partitions is None or self._partitions.holds(item.partition)

    async def _try(self, item: OutboxItem, account: Account, gate: AccountGate) -> bool:
        # An agent who took over a moment ago wins.
        if item.supersedable and await self._hooks.is_superseded(item):
            await self._settle(item, "dropped", "dropped", "superseded", None)
            return True
        if not self._may_send(item):
            return False
        return await self._attempt(item, account, gate)

    async def _attempt(self, item: OutboxItem, account: Account, gate: AccountGate) -> bool:
        started_ms, started = self._clock.now_ms(), self._clock.monotonic()
        try:
            adapter = self._directory.adapter(account)
            request = adapter.build_request(item.message, account, now_ms=started_ms)
            response = await self._client.send(request, timeout=SEND_TIMEOUT_SECONDS)
            receipt = adapter.read_response(response, now_ms=self._clock.now_ms())
        except PeerUnavailableError as error:
            receipt = Receipt(outcome=Outcome.RETRY, error=error.code)
        except OutcomeUnknownError as error:
            receipt = Receipt(outcome=Outcome.UNKNOWN, error=error.code)
        except HuojiError as error:
            receipt = Receipt(outcome=Outcome.FAILED, error=error.code)
        except Exception as error:
            # An adapter's bug costs this message; the conversation goes on.
            ids = traced(item.trace_ids)
            log.error(
                "delivery.adapter_failed", **ids, outbox_id=item.id, channel=account.channel, exc_info=error
            )
            receipt = Receipt(outcome=Outcome.FAILED, error=type(error).__name__)
        duration = self._clock.monotonic() - started
        outcome = receipt.outcome.value
        self._count(account.channel, outcome)
        gate.note(account, receipt)
        item.attempts += 1
        attempt = {
            "outbox_id": item.id,
            "number": item.attempts,
            "started_at_ms": started_ms,
            "duration_ms": round(duration * 1000),
            "outcome": outcome,
            "status_code": receipt.status,
            "error": receipt.error,
        }
        if trail.is_followed:
            named = {"conversation_id": item.conversation_id, "account_id": account.id}
            trail.note("delivery.attempt", item.trace_ids, **named, **attempt)
        match receipt.outcome:
            case Outcome.DELIVERED:
                await self._mark(item, "sent", "sent", None, attempt, receipt.external_id)
                if item.received_at_ms is not None:
                    self._metrics.reply_seconds.observe((self._clock.now_ms() - item.received_at_ms) / 1000)
                return True
            case Outcome.FAILED:
                await self._settle(
                    item, "failed", "failed", receipt.error or f"http_{receipt.status}", attempt
                )
                return True
            case Outcome.PAUSE_ACCOUNT:
                await self._directory.pause(account.id, receipt.error or f"http_{receipt.status}")
                await self._later(item, receipt, attempt, 0.0)
                return False
            case Outcome.RETRY | Outcome.UNKNOWN:
                wait = delay_seconds(
                    item.attempts, fraction=self._ids.fraction(), retry_after=receipt.retry_after
                )
                if receipt.retry_after is not None:
                    gate.hold(wait)
                await self._later(item, receipt, attempt, wait)
                return False

    def _count(self, channel: str, outcome: str) -> None:
        counter = self._counters.get((channel, outcome))
        if counter is None:
            counter = self._counters[channel, outcome] = self._metrics.deliveries.labels(channel, outcome)
        counter.inc()

    async def _later(self, item: OutboxItem, receipt: Receipt, attempt: dict[str, Any], wait: float) -> None:
        now_ms = self._clock.now_ms()
        item.next_attempt_at_ms = now_ms + round(wait * 1000)
        status = "unconfirmed" if receipt.outcome is Outcome.UNKNOWN else "queued"
        await self._mark(item, "open", status, receipt.error or f"http_{receipt.status}", attempt, None)

    async def _settle(
        self,
        item: OutboxItem,
        state: str,
        status: str,
        error: str | None,
        attempt: dict[str, Any] | None,
    ) -> None:
        await self._mark(item, state, status, error, attempt, None)
        if state == "failed":
            self._metrics.dead_letters.inc()
            ids = traced(item.trace_ids)
            log.warning("delivery.gave_up", **ids, outbox_id=item.id, account_id=item.account_id, error=error)
        elif trail.is_followed:
            trail.note("delivery.dropped", item.trace_ids, outbox_id=item.id, error=error)

    async def _mark(
        self,
        item: OutboxItem,
        state: str,
        status: str,
        error: str | None,
        attempt: dict[str, Any] | None,
        external_id: str | None,
    ) -> None:
        now_ms = self._clock.now_ms()
        event = None
        if status in _TOLD and (item.author is Author.AGENT or status != "sent"):
            event = self._hooks.delivery_event(item, status, error, now_ms)
        partitions = self._partitions
        mark = DeliveryMark(
            outbox_id=item.id,
            message_id=item.message_id,
            partition=item.partition,
            epoch=None if partitions is None else partitions.epochs.get(item.partition, 0),
            state=state,
            message_status=status,
            attempts=item.attempts,
            next_attempt_at_ms=item.next_attempt_at_ms,
            error=error,
            now_ms=now_ms,
            attempt=attempt,
            event=event,
            external_id=external_id,
        )
        while True:
            try:
                await self._database.writer.submit(self._mark_operation, mark, lingers=True)
                break
            except FencedError:
                if partitions is not None:
                    partitions.fenced(item.partition)
                raise
            except UnavailableError:
                # What was delivered must be marked; until the database is back nothing else of this
                # conversation may leave, or order would be lost.
                if not await self._pause(PAUSE_POLL_SECONDS):
                    raise
        self._hooks.on_marked(item, mark)

    async def _pause(self, seconds: float) -> bool:
        """Wait; False when this process began to stop meanwhile."""
        return not await _wait_or_stop(self._stopping, self._clock.sleep(seconds))


async def _wait_or_stop(stopping: asyncio.Event, sleep: Awaitable[None]) -> bool:
    sleeper = asyncio.ensure_future(sleep)
    stopper = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((sleeper, stopper), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleeper.cancel()
        stopper.cancel()
    return stopping.is_set()
