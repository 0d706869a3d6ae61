"""Who is there: the status a person chose, and whether a living process holds a socket of theirs.

Both stand in the database, so that all processes agree, and a process that dies takes its agents' presence with it. A
status stays until it is changed, whatever happens to sockets or servers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import IntegrityError

from app.core.errors import HuojiError, UnavailableError
from app.desk.connections import LivingProcesses, bury_connections, connect, connected_agents, disconnect
from app.desk.duty import Alone, Duty
from app.desk.escalations import PolicyOf, enqueue_again
from app.desk.events import CONTROL_TAKEN_OVER, control_event, conversation_event
from app.desk.people import User, find_user
from app.desk.scope import conversation_query, read_conversation
from app.desk.wire import conversation_wire
from app.desk.work import Desk, Work
from app.storage.database import upsert
from app.storage.tables import agent_connections, conversations, presence

__all__ = ["GRACE_MS", "PresenceService", "Seat", "Status"]

log = structlog.get_logger(__name__)

GRACE_MS = 60_000
"""How long conversations stay with an agent without a socket. Source: the contracts page, section 4."""

SWEEP_SECONDS = 5.0

ALL_ALONE = "this"
"""The id of a process that has no others beside it."""


class Status(StrEnum):
    """What a person says about themselves."""

    ONLINE = "online"
    BUSY = "busy"
    RESTING = "resting"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Seat:
    """An agent's desk as it stands: status, load, and the conversations they hold, latest first."""

    status: Status
    reason: str | None
    load: int
    conversations: list[dict[str, Any]]


class PresenceService:
    """Statuses and sockets of agents; on duty it gives back to the queue what an agent who is gone held."""

    def __init__(
        self,
        desk: Desk,
        *,
        policy_of: PolicyOf,
        process: Callable[[], str | None] = lambda: ALL_ALONE,
        living: LivingProcesses | None = None,
        duty: Duty | None = None,
    ) -> None:
        """Take what tells this process from others.

        Args:
            desk: where changes are made.
            policy_of: gives a shop's settings.
            process: gives this process's id, which no process had before; None while it has none.
            living: gives the processes that live; this one alone unless given.
            duty: says whether this process sweeps.
        """
        self._desk = desk
        self._policy_of = policy_of
        self._process = process
        self._given_living = living
        self._duty = duty or Alone()
        self._sockets: Counter[int] = Counter()
        self._started_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin looking for agents who are gone; their 60 s count from now at the earliest."""
        self._started_at = self._desk.clock.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._loop(), name="presence")

    async def stop(self) -> None:
        """End looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def connected(self, user: User) -> None:
        """A socket of an agent has opened."""
        self._sockets[user.id] += 1

        def note(work: Work) -> None:
            now_ms = work.shared_now_ms()
            _mark(work, user.id, seen_at_ms=now_ms)
            process = self._process()
            if process is not None:
                connect(work.connection, (user.id,), process, now_ms=now_ms)

        await self._desk.change(note)

    async def disconnected(self, user: User) -> None:
        """A socket of an agent has closed; with the last one, wherever it was, their 60 s begin."""
        self._sockets[user.id] -= 1
        if self._sockets[user.id] > 0:
            return
        del self._sockets[user.id]

        def note(work: Work) -> None:
            _mark(work, user.id, seen_at_ms=work.shared_now_ms())
            process = self._process()
            if process is not None:
                disconnect(work.connection, user.id, process)

        await self._desk.change(note)

    async def take_over(self, user: User, keep: str) -> None:
        """Have every socket of an agent closed but the one named ``keep``, at whichever process they are."""

        def tell(work: Work) -> None:
            work.events.append(
                control_event(CONTROL_TAKEN_OVER, {"keep": keep}, agent_id=user.id, now_ms=work.now_ms)
            )

        await self._desk.change(tell)

    def connected_agents(self, connection: Connection) -> set[int]:
        """Return who can be reached by a socket now, at this process or another."""
        return connected_agents(connection, self._living(connection))

    async def set_status(self, user: User, status: Status, *, reason: str | None = None) -> None:
        """Store the status that a person chose."""

        def store(work: Work) -> None:
            _mark(work, user.id, status=status.value, reason=reason, changed_at_ms=work.now_ms)

        await self._desk.change(store)

    async def seat(self, user: User) -> Seat:
        """Return how an agent's desk stands."""

        def look(connection: Connection) -> Seat:
            row = (
                connection.execute(select(presence).where(presence.c.agent_id == user.id)).mappings().first()
            )
            held = connection.execute(
                conversation_query()
                .where(conversations.c.agent_id == user.id, conversations.c.state == "human")
                .order_by(conversations.c.updated_at_ms.desc())
            ).mappings()
            wires = [conversation_wire(one) for one in held]
            status = Status.OFFLINE if row is None else Status(row["status"])
            return Seat(status, None if row is None else row["reason"], len(wires), wires)

        return await self._desk.database.read(look)

    async def sweep(self) -> int:
        """Give back what agents hold who have been gone for 60 s; return how many conversations."""
        if await self._desk.database.read(self._has_dead):
            await self._desk.change(self._bury)
        started = self._started_at
        if started is not None and self._desk.clock.monotonic() - started < GRACE_MS / 1000:
            return 0
        given_back = 0
        for conversation_id, agent_id in await self._desk.database.read(self._abandoned):
            # Somebody else changed it first, or whoever held it has just come back: nothing to do.
            with contextlib.suppress(HuojiError, IntegrityError):
                given_back += await self._desk.change(
                    lambda work, one=conversation_id, agent=agent_id: self._give_back(work, one, agent)
                )
        return given_back

    def _living(self, connection: Connection) -> Collection[str]:
        return {self._process() or ""} if self._given_living is None else self._given_living(connection)

    def _has_dead(self, connection: Connection) -> bool:
        living = self._living(connection)
        found = connection.execute(select(agent_connections.c.process).distinct()).scalars()
        return any(process not in living for process in found)

    def _bury(self, work: Work) -> None:
        gone = bury_connections(work.connection, self._living(work.connection))
        if not gone:
            return
        self._duty.confirm(work.connection)
        # Their process died; from now on they are as agents whose last socket has closed.
        for agent_id in sorted(gone):
            _mark(work, agent_id, seen_at_ms=work.shared_now_ms())

    def _abandoned(self, connection: Connection) -> list[tuple[int, int]]:
        here = self.connected_agents(connection)
        rows = connection.execute(
            select(conversations.c.id, conversations.c.agent_id)
            .outerjoin(presence, presence.c.agent_id == conversations.c.agent_id)
            .where(
                conversations.c.state == "human",
                conversations.c.agent_id.is_not(None),
                conversations.c.agent_id.not_in(here),
                func.coalesce(presence.c.seen_at_ms, 0) <= self._desk.now_of(connection) - GRACE_MS,
            )
            .order_by(conversations.c.id)
            .limit(200)
        )
        return [(row.id, row.agent_id) for row in rows]

    def _give_back(self, work: Work, conversation_id: int, agent_id: int) -> int:
        self._duty.confirm(work.connection)
        row = read_conversation(work.connection, conversation_id, lock=True)
        if row["state"] != "human" or row["agent_id"] != agent_id:
            return 0
        if agent_id in self.connected_agents(work.connection):
            return 0
        enqueue_again(
            work, row, group_id=row["group_id"] or _home_group(work, agent_id), reason="agent_gone",
            policy=self._policy_of(row["shop_id"]),
        )  # fmt: skip
        after = read_conversation(work.connection, conversation_id)
        work.events.append(conversation_event(after, now_ms=work.now_ms, agent_id=agent_id))
        return 1

    async def _loop(self) -> None:
        while True:
            await self._desk.clock.sleep(SWEEP_SECONDS)
            try:
                await self._stay()
                if self._duty.is_mine:
                    await self.sweep()
            except UnavailableError:
                log.warning("desk.presence_failed")
            except Exception:  # the others' conversations must come back whatever one of them holds
                log.exception("desk.presence_failed")

    async def _stay(self) -> None:
        """Note again who has sockets here: this process was taken for dead if their rows are missing."""
        here = {user_id for user_id, count in self._sockets.items() if count > 0}
        process = self._process()
        if not here or process is None:
            return

        def missing(connection: Connection) -> set[int]:
            found = select(agent_connections.c.agent_id).where(agent_connections.c.process == process)
            return here - set(connection.execute(found).scalars())

        lost = await self._desk.database.read(missing)
        if lost:

            def note(work: Work) -> None:
                connect(
                    work.connection,
                    # Whoever left in between must not come back as a ghost.
                    sorted(one for one in lost if self._sockets[one] > 0),
                    process,
                    now_ms=work.shared_now_ms(),
                )
                work.queue_changed = True

            await self._desk.change(note)


def _mark(work: Work, user_id: int, **values: Any) -> None:
    base: Mapping[str, Any] = {
        "agent_id": user_id,
        "status": Status.OFFLINE.value,
        "changed_at_ms": work.now_ms,
    }
    statement = upsert(work.connection, presence).values({**base, **values})
    work.connection.execute(statement.on_conflict_do_update(index_elements=["agent_id"], set_=values))
    work.queue_changed = True


def _home_group(work: Work, agent_id: int) -> str:
    user = find_user(work.connection, agent_id)
    return user.groups[0] if user is not None and user.groups else "presale"
