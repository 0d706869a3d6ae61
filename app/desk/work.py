"""One change of the desk: a transaction that also stores its events, and what follows once it is committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from app.core.clock import Clock
from app.core.ids import Ids
from app.delivery.outbox import OutboxItem
from app.desk.events import EventRow, append_events
from app.storage.database import Database
from app.storage.time import SharedTime

__all__ = ["Desk", "Work"]

R = TypeVar("R")


class Work:
    """What one transaction gathers: events to store in it, and what to do after its commit."""

    __slots__ = ("_now_of", "connection", "enqueued", "events", "ids", "moved", "now_ms", "queue_changed")

    def __init__(
        self, connection: Connection, *, now_ms: int, ids: Ids, now_of: SharedTime | None = None
    ) -> None:
        self.connection = connection
        self.now_ms = now_ms
        self._now_of = now_of
        self.ids = ids
        self.events: list[EventRow] = []
        self.enqueued: list[OutboxItem] = []
        self.moved: set[int] = set()
        """Conversations whose row changed; who keeps them in memory reads them again."""
        self.queue_changed = False
        """Whether routing has to look again: an escalation opened or closed, or an agent got room."""

    def shared_now_ms(self) -> int:
        """Return the time that every process agrees on, for what they compare with each other."""
        return self.now_ms if self._now_of is None else self._now_of(self.connection)


class Desk:
    """Runs the desk's changes.

    Args:
        on_conversation_changed: called with each changed conversation's id after the commit.
        on_enqueued: called with what was put into the outbox after the commit.
        on_events: called after a commit that stored events (``EventHub.notify``).
        on_queue_changed: called after a commit that concerns the queue (``Router.kick``).
        now_of: the time that all processes agree on; the clock's unless given.
        require_living: called first in each transaction; raises UnavailableError when the others take this process for
            dead, and keeps them from it until the transaction ends.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        ids: Ids,
        on_conversation_changed: Callable[[int], None],
        on_enqueued: Callable[[Sequence[OutboxItem]], Any],
        on_events: Callable[[], None],
        on_queue_changed: Callable[[], None],
        now_of: SharedTime | None = None,
        require_living: Callable[[Connection], None] = lambda _connection: None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.ids = ids
        self._require_living = require_living
        self.now_of: SharedTime = now_of or (lambda _connection: clock.now_ms())
        self._on_conversation_changed = on_conversation_changed
        self._on_enqueued = on_enqueued
        self._on_events = on_events
        self._on_queue_changed = on_queue_changed

    async def change(self, function: Callable[[Work], R]) -> R:
        """Run a function in a transaction; return its result after the commit and after telling everybody.

        Raises:
            HuojiError: as the function raised it; nothing has changed then.
            UnavailableError: the database didn't take the transaction, or this process is cut off from the others.
        """

        def inside(connection: Connection) -> tuple[R, Work]:
            self._require_living(connection)
            # Made in here: the writer may run a function again when a neighbour spoilt the batch.
            work = Work(connection, now_ms=self.clock.now_ms(), ids=self.ids, now_of=self.now_of)
            result = function(work)
            append_events(connection, work.events)
            return result, work

        result, work = await self.database.write(inside)
        for conversation_id in work.moved:
            self._on_conversation_changed(conversation_id)
        if work.enqueued:
            self._on_enqueued(work.enqueued)
        if work.events:
            self._on_events()
        if work.queue_changed:
            self._on_queue_changed()
        return result
