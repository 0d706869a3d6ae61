"""The batch writer: everything that queued while the last commit ran becomes one transaction.

No delay is added to what somebody waits for: a lone write commits at once, under load batches grow by themselves. What
nobody waits for (that a message has left) may linger a few milliseconds to share a commit. A batch holds two kinds of
jobs:

* *bulk* jobs, hot and many: items of one ``BulkOperation`` are applied together, a statement a table;
* *calls*, cold and few: any function over the connection, each in its own savepoint, in the order they came.

A failing call spoils only itself. When a bulk operation raises, the transaction is rolled back and every job of the
batch is run again alone, so that one bad row can't take its neighbours along. Nothing is reported before its commit.

Source: measured in the performance notes, "Plus one durable insert before the 200": a commit each costs 5–20 times
the CPU and a p99 of half a second.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError

from app.core.crashpoints import points
from app.core.errors import HuojiError, OverloadedError, UnavailableError
from app.core.metrics import Metrics
from app.storage import closing
from app.storage.damage import DamagedError
from app.storage.overdue import Overdue

__all__ = ["ANSWER_SECONDS", "BatchWriter", "BulkOperation", "TransactionRunner"]

log = structlog.get_logger(__name__)

T = TypeVar("T")
R = TypeVar("R")
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

MAX_ROWS = 512
"""Jobs a transaction takes at most: keeps the wait of the next batch short."""

MAX_TRIES = 5
"""How often a transaction is run that collides with another process's. Source: the reliability notes, F16."""

COLLISION_PAUSE_SECONDS = 0.01
_COLLISIONS = frozenset({"40001", "40P01"})
"""PostgreSQL's codes for a serialization failure and for a deadlock."""

ANSWER_SECONDS = 3.0
"""How long whoever posts from outside waits for a database server that says nothing: longer than a commit takes on a
machine that is short of everything, and shorter than platforms wait. One that refuses is told at once.

Source: the faults to survive, F13, which asks for one second; the slowest commits under load take that.
"""

UNSURE_SECONDS = 60.0
"""For so long after a commit failed, what it wrote may still turn up: PostgreSQL ends a session that idles in a
transaction after 30 s, and one that is being committed sooner."""

LINGER_SECONDS = 0.005
"""How long a job that may linger waits for others to commit with: about what a commit takes on a common disk."""


class BulkOperation(Protocol[T_contra, R_co]):
    """A write of many like items in few statements.

    ``apply`` returns one result an item, in order; an ``Exception`` as a result fails that item alone (it must then
    have written nothing for it). ``rank`` orders operations inside a transaction, lowest first.
    """

    rank: int

    def apply(self, connection: Connection, items: Sequence[T_contra]) -> Sequence[R_co | Exception]: ...


_NAMES = {10: "inbox", 20: "turn", 30: "mark"}
"""What the hot operations are called in the names of crash points, by their ranks."""

TransactionRunner = Callable[[Callable[[Connection], Any]], Awaitable[Any]]
"""Runs a function in one transaction on the writer's connection and commits it."""


class _Job:
    __slots__ = ("future", "is_offered", "operation", "payload", "size")

    def __init__(self, operation: Any, payload: Any, size: int, future: asyncio.Future[Any]) -> None:
        self.is_offered = False
        self.operation = operation
        self.payload = payload
        self.size = size
        self.future = future


class BatchWriter:
    """One writer a process. ``start`` before use; ``stop`` finishes what is queued."""

    def __init__(
        self,
        run: TransactionRunner,
        *,
        metrics: Metrics,
        max_rows: int = 4096,
        max_bytes: int = 32 * 1024 * 1024,
        answer_seconds: float | None = None,
    ) -> None:
        """Take the transaction runner and the bounds on what may wait (rows, bytes) for ``offer``.

        ``answer_seconds``: how long offered items wait for the commit under way; None: for as long as it takes.
        """
        self.on_unsure: Callable[[], None] = lambda: None
        """Called when a commit failed, or came late: rows may be stored that nobody here was told of."""
        self._run = run
        self._metrics = metrics
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._queue: deque[_Job] = deque()
        self._bytes = 0
        self._wake: asyncio.Event = asyncio.Event()
        self._linger: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._under_way: list[_Job] = []
        self._overdue = None if answer_seconds is None else Overdue(answer_seconds, self._give_up_waiting)
        self._is_late = False
        self._unsure_until = -math.inf

    def start(self) -> None:
        """Begin committing what is queued."""
        self._task = asyncio.get_running_loop().create_task(self._loop(), name="batch-writer")

    async def stop(self) -> None:
        """Commit what is queued, then end."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None

    @property
    def waiting(self) -> int:
        """Jobs not yet committed."""
        return len(self._queue)

    @property
    def is_unsure(self) -> bool:
        """Whether rows may turn up in the database whose commit failed as far as anybody here knows."""
        return self._unsure_until > asyncio.get_running_loop().time()

    def offer(self, operation: BulkOperation[T, R], item: T, size: int) -> asyncio.Future[R]:
        """Queue a bulk item from outside, ``size`` in bytes.

        Raises:
            OverloadedError: as many rows or bytes wait as are allowed; nothing was queued.
            UnavailableError: the database doesn't answer, or this process stops; nothing was queued.

        The future raises UnavailableError also when the database took too long; what was offered may then be stored
        all the same.
        """
        if self._is_late:
            raise _no_answer()
        if len(self._queue) >= self._max_rows or self._bytes + size > self._max_bytes:
            raise OverloadedError(
                "too many messages are waiting to be stored; send this one again", retry_after=1
            )
        future = self.submit(operation, item, size)
        self._queue[-1].is_offered = True
        return future

    def submit(
        self, operation: BulkOperation[T, R], item: T, size: int = 0, *, lingers: bool = False
    ) -> asyncio.Future[R]:
        """Queue a bulk item of our own work, which is never refused: it follows from something already taken.

        ``lingers``: nobody waits for it, so it may wait ``LINGER_SECONDS`` for a commit that happens anyway.
        """
        if self._stopping:
            raise UnavailableError("this process is stopping", retry_after=1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.append(_Job(operation, item, size, cast("asyncio.Future[Any]", future)))
        self._bytes += size
        if not lingers:
            self._wake.set()
        elif self._linger is None and not self._wake.is_set():
            self._linger = loop.call_later(LINGER_SECONDS, self._wake.set)
        return future

    async def call(self, function: Callable[[Connection], R]) -> R:
        """Run a function in a batch's transaction, in a savepoint of its own; return its result after the commit.

        Raises:
            HuojiError: as the function raised it; its writes are undone.
            UnavailableError: the database didn't take the transaction.
        """
        return await self.submit(cast("BulkOperation[Any, R]", None), function)

    async def _loop(self) -> None:
        while True:
            await self._wake.wait()
            # Whatever else is ready in this round of the event loop comes along; and whoever waited for the last
            # commit gets to know of it.
            await asyncio.sleep(0)
            self._wake.clear()
            if self._linger is not None:
                self._linger.cancel()
                self._linger = None
            if not self._queue:
                if self._stopping:
                    return
                continue
            if len(self._queue) > MAX_ROWS or self._stopping:
                self._wake.set()
            batch = [self._queue.popleft() for _ in range(min(MAX_ROWS, len(self._queue)))]
            self._bytes -= sum(job.size for job in batch)
            if self._overdue is None:
                await self._commit(batch)
                continue
            self._under_way = batch
            self._overdue.begin()
            await self._commit(batch)
            self._overdue.end()
            self._under_way = []
            if self._is_late:
                self._is_late = False
                self._become_unsure()

    def _give_up_waiting(self) -> None:
        """The database doesn't answer: tell everybody outside to come again, and go on waiting alone."""
        log.warning("storage.no_answer", rows=len(self._under_way), waiting=len(self._queue))
        self._is_late = True
        self._become_unsure()
        waiting, self._queue = self._queue, deque(job for job in self._queue if not job.is_offered)
        self._bytes = sum(job.size for job in self._queue)
        for job in (*self._under_way, *waiting):
            if job.is_offered:
                _resolve(job, _no_answer())

    def _become_unsure(self) -> None:
        self._unsure_until = asyncio.get_running_loop().time() + UNSURE_SECONDS
        self.on_unsure()

    async def _commit(self, batch: list[_Job], tries: int = 1) -> None:
        try:
            outcomes = await self._run(lambda connection: _apply(connection, batch))
            if points.is_armed:
                points.reach_each(_crash_points("after", batch))
        except Exception as error:  # noqa: BLE001 - every failure must reach whoever waits for the commit
            await self._after_failure(batch, error, tries)
            return
        self._metrics.batch_rows.observe(len(batch))
        for job, outcome in zip(batch, outcomes, strict=True):
            _resolve(job, outcome)

    async def _after_failure(self, batch: list[_Job], error: Exception, tries: int) -> None:
        self._metrics.batch_failures.inc()
        if isinstance(error, DamagedError):
            for job in batch:
                _resolve(job, error)
        elif _is_collision(error) and tries < MAX_TRIES:
            log.warning("storage.collision", rows=len(batch), tries=tries, reason=_reason(error))
            await asyncio.sleep(COLLISION_PAUSE_SECONDS * tries)
            await self._commit(batch, tries + 1)
        elif _is_outage(error):
            log.warning(
                "storage.commit_failed", rows=len(batch), error=type(error).__name__, reason=_reason(error)
            )
            failure = UnavailableError("the database did not take this; try again", retry_after=1)
            failure.__cause__ = error
            for job in batch:
                _resolve(job, failure)
            self._become_unsure()
        elif len(batch) > 1:
            log.warning("storage.batch_taken_apart", rows=len(batch), exc_info=error)
            for job in batch:
                await self._commit([job])
        else:
            _resolve(batch[0], error)


def _is_collision(error: Exception) -> bool:
    """Whether PostgreSQL gave up this transaction for the sake of another process's; it can simply be run again."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _COLLISIONS


def _is_outage(error: Exception) -> bool:
    """Whether the database itself failed (away, full, locked), so that the same write may succeed later."""
    if isinstance(error, (OperationalError, InterfaceError, TimeoutError, OSError)):
        return True
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or isinstance(error, InternalError)
    )


def _no_answer() -> UnavailableError:
    return UnavailableError("the database does not answer; try again", retry_after=1)


def _reason(error: Exception) -> str:
    # The driver's own words, without the statement and its parameters: those carry buyers' texts.
    return str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__


def _resolve(job: _Job, outcome: Any) -> None:
    if job.future.done():
        return
    if isinstance(outcome, Exception):
        job.future.set_exception(outcome)
    else:
        job.future.set_result(outcome)


def _apply(connection: Connection, batch: list[_Job]) -> list[Any]:
    closing.begin(connection)
    try:
        outcomes = _run_jobs(connection, batch)
        closing.finish(connection)
        if points.is_armed:
            points.reach_each(_crash_points("before", batch))
    finally:
        closing.end(connection)
    return outcomes


def _crash_points(moment: str, batch: list[_Job]) -> list[str]:
    ranks = {job.operation.rank for job in batch if job.operation is not None}
    return [f"{moment}_{_NAMES[rank]}_commit" for rank in sorted(ranks) if rank in _NAMES]


def _run_jobs(connection: Connection, batch: list[_Job]) -> list[Any]:
    outcomes: list[Any] = [None] * len(batch)
    bulk: dict[Any, list[int]] = {}
    calls: list[int] = []
    for index, job in enumerate(batch):
        if job.operation is None:
            calls.append(index)
        else:
            bulk.setdefault(job.operation, []).append(index)
    for operation in sorted(bulk, key=lambda one: one.rank):
        indexes = bulk[operation]
        results = operation.apply(connection, [batch[index].payload for index in indexes])
        for index, result in zip(indexes, results, strict=True):
            outcomes[index] = result
    for index in calls:
        place = closing.mark(connection)
        try:
            with connection.begin_nested():
                outcomes[index] = batch[index].payload(connection)
        except (HuojiError, IntegrityError) as error:
            closing.cut(connection, place)
            outcomes[index] = error
    return outcomes
