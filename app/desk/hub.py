"""From the event log to agents' sockets: read once, filtered for each, encoded once.

The database is the truth and ``notify`` only a hint to look again; a lost hint costs at most one poll interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson
import structlog
from sqlalchemy import Connection, func, select

from app.bus.polling import POLL_SECONDS
from app.core.clock import Clock
from app.core.errors import UnavailableError
from app.desk.events import CONTROL, last_seq, prune_events
from app.desk.people import User
from app.desk.permissions import Permission
from app.storage.database import Database
from app.storage.tables import console_events, conversations

__all__ = ["EventHub", "Resume", "Subscriber"]

log = structlog.get_logger(__name__)

PAGE = 500
RETENTION_MS = 3 * 24 * 3600 * 1000
"""How far back a client may resume: over a weekend."""

REPLAY_AT_MOST = 20_000
"""Events a resuming client is read at most; with more missed, reloading is quicker for everybody."""

PRUNE_EVERY_MS = 3600 * 1000


class Subscriber(Protocol):
    """An open socket, as the hub sees it. ``user`` is who it shows events to, as of now."""

    user: User
    watching: set[int]

    def push(self, frame: str, size: int) -> None:
        """Take a frame of ``size`` bytes without waiting; a reader that is too slow is the subscriber's to cut."""
        ...

    async def room(self) -> None:
        """Wait until most of what was pushed has left, so that a long replay doesn't count as slowness."""
        ...

    def control(self, kind: str, data: Mapping[str, str]) -> None:
        """Act on what another process said to the sockets of this agent (``CONTROL_…`` in ``app.desk.events``)."""
        ...


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a stream begins: live from ``seq``; ``is_resync`` when what was asked for can't be replayed."""

    seq: int
    is_resync: bool = False


@dataclass(frozen=True, slots=True)
class _Event:
    seq: int
    frame: str
    size: int
    shop_id: str | None
    group_id: str | None
    agent_id: int | None
    conversation_id: int | None
    holder_id: int | None
    control: str | None = None

    def is_for(self, subscriber: Subscriber) -> bool:
        user = subscriber.user
        if self.control is not None:
            return False
        if not user.sees_shop(self.shop_id):
            return False
        if self.agent_id == user.id or user.may(Permission.SUPERVISE):
            return True
        if self.agent_id is not None:
            return False
        if self.holder_id == user.id or self.conversation_id in subscriber.watching:
            return True
        return self.group_id is not None and user.serves(self.group_id)


class EventHub:
    """Pushes events to the sockets of this process."""

    def __init__(
        self, database: Database, *, clock: Clock, wait_seconds: Callable[[], float] = lambda: POLL_SECONDS
    ) -> None:
        """``wait_seconds``: how long to wait for a hint before looking by itself."""
        self._wait_seconds = wait_seconds
        self._database = database
        self._clock = clock
        self._position = 0
        self._subscribers: dict[Subscriber, int] = {}
        # With the number each stream had reached when it joined.
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._pruned_at_ms = 0

    async def start(self) -> None:
        """Begin at the end of the log."""
        self._position = await self._database.read(last_seq)
        self._task = asyncio.get_running_loop().create_task(self._loop(), name="event-hub")

    async def stop(self) -> None:
        """End pushing; what is stored stays for resuming."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def notify(self) -> None:
        """Say that events have been committed."""
        self._wake.set()

    @property
    def subscribers(self) -> int:
        """Open streams of this process."""
        return len(self._subscribers)

    async def position(self) -> int:
        """Return the number of the latest event."""
        return await self._database.read(last_seq)

    async def check(self, resume_after: int | None) -> Resume:
        """Say where a stream that asks for ``resume_after`` will begin, without opening it."""

        def look(connection: Connection) -> Resume:
            first, last = connection.execute(
                select(func.min(console_events.c.seq), func.max(console_events.c.seq))
            ).one()
            newest = last or 0
            if resume_after is None:
                return Resume(newest)
            missed = newest - resume_after
            if (
                missed < 0
                or missed > REPLAY_AT_MOST
                or (missed and first is not None and first > resume_after + 1)
            ):
                return Resume(newest, is_resync=True)
            return Resume(resume_after)

        return await self._database.read(look)

    async def subscribe(self, subscriber: Subscriber, after: int) -> None:
        """Push every event after a number that the subscriber may see, then go on with the new ones."""
        cursor = after
        while True:
            page = await self._page(cursor)
            for event in page:
                if event.is_for(subscriber):
                    # What was missed may be more than a socket may hold at once; that isn't the reader's slowness.
                    await subscriber.room()
                    subscriber.push(event.frame, event.size)
                cursor = event.seq
            if len(page) < PAGE:
                break
        # The rest under the lock, so that the loop can't move on between the last read and joining.
        async with self._turn:
            if not self._subscribers:
                # Nobody was listening, so the loop hasn't read; it begins where this one has got to.
                self._position = cursor
            while cursor < self._position:
                page = await self._page(cursor)
                if not page:
                    break
                cursor = _deliver(page, subscriber, cursor)
            self._subscribers[subscriber] = cursor
        # What was committed meanwhile may have been announced to nobody.
        self._wake.set()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """End a stream."""
        self._subscribers.pop(subscriber, None)

    async def _page(self, after: int) -> Sequence[_Event]:
        return await self._database.read(lambda connection: _read(connection, after))

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            try:
                while await self._step():
                    pass
                await self._prune()
            except UnavailableError:
                log.warning("desk.events_unreadable")
            except Exception:  # what is stored stays readable; the next look may succeed
                log.exception("desk.events_unreadable")
            await self._wait()

    async def _wait(self) -> None:
        nap = asyncio.ensure_future(self._clock.sleep(self._wait_seconds()))
        hint = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({nap, hint}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            hint.cancel()

    async def _step(self) -> bool:
        """Push one page of new events; True when there may be more."""
        if not self._subscribers:
            return False
        async with self._turn:
            page = await self._page(self._position)
            for event in page:
                for subscriber, joined_at in list(self._subscribers.items()):
                    if event.seq <= joined_at:
                        continue
                    if event.is_for(subscriber):
                        subscriber.push(event.frame, event.size)
                    elif event.control is not None and event.agent_id == subscriber.user.id:
                        subscriber.control(event.control, orjson.loads(event.frame))
            if page:
                self._position = page[-1].seq
        return len(page) == PAGE

    async def _prune(self) -> None:
        now = self._clock.now_ms()
        if now - self._pruned_at_ms < PRUNE_EVERY_MS:
            return
        self._pruned_at_ms = now
        await self._database.write(lambda connection: prune_events(connection, before_ms=now - RETENTION_MS))


def _deliver(page: Sequence[_Event], subscriber: Subscriber, cursor: int) -> int:
    for event in page:
        if event.is_for(subscriber):
            subscriber.push(event.frame, event.size)
    return page[-1].seq if page else cursor


def _read(connection: Connection, after: int) -> Sequence[_Event]:
    rows = connection.execute(
        select(console_events).where(console_events.c.seq > after).order_by(console_events.c.seq).limit(PAGE)
    ).all()
    about = {row.conversation_id for row in rows if row.conversation_id is not None and row.agent_id is None}
    holders: Mapping[int, int] = {}
    if about:
        holders = {
            row.id: row.agent_id
            for row in connection.execute(
                select(conversations.c.id, conversations.c.agent_id).where(
                    conversations.c.id.in_(about), conversations.c.state == "human"
                )
            )
        }
    # Encoded here once, whatever the number of sockets it goes to. What is for processes keeps only its data.
    frames = [
        row.data
        if row.type.startswith(CONTROL)
        else f'{{"seq":{row.seq},"type":"{row.type}","data":{row.data}}}'
        for row in rows
    ]
    return [
        _Event(
            seq=row.seq,
            frame=frame,
            size=len(frame.encode()),
            shop_id=row.shop_id,
            group_id=row.group_id,
            agent_id=row.agent_id,
            conversation_id=row.conversation_id,
            holder_id=None if row.conversation_id is None else holders.get(row.conversation_id),
            control=row.type if row.type.startswith(CONTROL) else None,
        )
        for row, frame in zip(rows, frames, strict=True)
    ]
