"""Who is there: the status a person chose, and a lease that open sockets renew.

The lease, not a count of sockets, says whether somebody is there, so that a process that dies takes nobody with it for
ever and several processes agree. A status stays until it is changed, whatever happens to sockets or servers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy import Connection, func, select, update

from app.core.errors import HuojiError, UnavailableError
from app.desk.escalations import PolicyOf, enqueue_again
from app.desk.events import conversation_event
from app.desk.people import User, find_user
from app.desk.scope import conversation_query, read_conversation
from app.desk.wire import conversation_wire
from app.desk.work import Desk, Work
from app.storage.database import upsert
from app.storage.tables import conversations, presence

__all__ = ["GRACE_MS", "PresenceService", "Seat", "Status"]

log = structlog.get_logger(__name__)

GRACE_MS = 60_000
"""How long conversations stay with an agent without a socket. Source: the contracts page, section 4."""

RENEW_SECONDS = 15.0
LEASE_MS = 45_000
"""A lease not renewed for three periods has run out."""

SWEEP_SECONDS = 5.0


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
    """Statuses and leases of agents; gives back to the queue what an agent who is gone held."""

    def __init__(self, desk: Desk, *, policy_of: PolicyOf) -> None:
        self._desk = desk
        self._policy_of = policy_of
        self._sockets: Counter[int] = Counter()
        self._left_at_ms: dict[int, int] = {}
        self._started_at_ms = 0
        self._renewed_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin renewing leases and looking for agents who are gone; their 60 s count from now at the earliest."""
        self._started_at_ms = self._desk.clock.now_ms()
        self._renewed_at = self._desk.clock.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._loop(), name="presence")

    async def stop(self) -> None:
        """End renewing."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def connected(self, user: User) -> None:
        """A socket of an agent has opened."""
        self._sockets[user.id] += 1
        self._left_at_ms.pop(user.id, None)
        await self._desk.change(lambda work: _mark(work, user.id, seen_at_ms=work.now_ms))

    async def disconnected(self, user: User) -> None:
        """A socket of an agent has closed; with the last one their 60 s begin."""
        self._sockets[user.id] -= 1
        if self._sockets[user.id] > 0:
            return
        del self._sockets[user.id]
        left_at_ms = self._desk.clock.now_ms()
        self._left_at_ms[user.id] = left_at_ms
        await self._desk.change(lambda work: _mark(work, user.id, seen_at_ms=left_at_ms))

    def is_connected(self, user_id: int, seen_at_ms: int | None) -> bool:
        """Whether somebody can be reached by a socket now, here or at another process, going by their lease."""
        if self._sockets[user_id] > 0:
            return True
        if seen_at_ms is None or self._desk.clock.now_ms() - seen_at_ms > LEASE_MS:
            return False
        left = self._left_at_ms.get(user_id)
        return left is None or seen_at_ms > left

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
        now = self._desk.clock.now_ms()
        if now - self._started_at_ms < GRACE_MS:
            return 0
        found = await self._desk.database.read(
            lambda connection: _abandoned(connection, before_ms=now - GRACE_MS)
        )
        given_back = 0
        for conversation_id, agent_id in found:
            if self._sockets[agent_id] > 0:
                continue
            with contextlib.suppress(HuojiError):
                given_back += await self._desk.change(
                    lambda work, one=conversation_id, agent=agent_id: self._give_back(work, one, agent)
                )
        return given_back

    def _give_back(self, work: Work, conversation_id: int, agent_id: int) -> int:
        row = read_conversation(work.connection, conversation_id)
        if row["state"] != "human" or row["agent_id"] != agent_id:
            return 0
        enqueue_again(
            work, row, group_id=row["group_id"] or _home_group(work, agent_id), reason="agent_gone",
            policy=self._policy_of(row["shop_id"]),
        )  # fmt: skip
        after = read_conversation(work.connection, conversation_id)
        work.events.append(conversation_event(after, now_ms=work.now_ms, agent_id=agent_id))
        return 1

    async def _loop(self) -> None:
        clock = self._desk.clock
        while True:
            await clock.sleep(SWEEP_SECONDS)
            try:
                if clock.monotonic() - self._renewed_at >= RENEW_SECONDS:
                    self._renewed_at = clock.monotonic()
                    await self._renew()
                await self.sweep()
            except UnavailableError:
                log.warning("desk.presence_failed")
            except Exception:  # leases must be renewed whatever one conversation holds
                log.exception("desk.presence_failed")

    async def _renew(self) -> None:
        here = [user_id for user_id, count in self._sockets.items() if count > 0]
        if not here:
            return
        now = self._desk.clock.now_ms()
        await self._desk.database.write(
            lambda connection: (
                connection.execute(
                    update(presence).where(presence.c.agent_id.in_(here)).values(seen_at_ms=now)
                ).rowcount
            )
        )


def _mark(work: Work, user_id: int, **values: Any) -> None:
    base: Mapping[str, Any] = {
        "agent_id": user_id,
        "status": Status.OFFLINE.value,
        "changed_at_ms": work.now_ms,
    }
    statement = upsert(work.connection, presence).values({**base, **values})
    work.connection.execute(statement.on_conflict_do_update(index_elements=["agent_id"], set_=values))
    work.queue_changed = True


def _abandoned(connection: Connection, *, before_ms: int) -> list[tuple[int, int]]:
    rows = connection.execute(
        select(conversations.c.id, conversations.c.agent_id)
        .outerjoin(presence, presence.c.agent_id == conversations.c.agent_id)
        .where(
            conversations.c.state == "human",
            conversations.c.agent_id.is_not(None),
            func.coalesce(presence.c.seen_at_ms, 0) <= before_ms,
        )
        .order_by(conversations.c.id)
        .limit(200)
    )
    return [(row.id, row.agent_id) for row in rows]


def _home_group(work: Work, agent_id: int) -> str:
    user = find_user(work.connection, agent_id)
    return user.groups[0] if user is not None and user.groups else "presale"
