"""Runs the routing: reads the queue and who is there, makes the offers, looks again when something changes or falls due.

Every process has a router, and the one on duty routes. So no two of them ever plan for the same agents, and none can
offer somebody more than they have room for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Connection, func, or_, select, update

from app.core.errors import NotFoundError, UnavailableError
from app.desk.duty import Alone, Duty
from app.desk.escalations import PolicyOf
from app.desk.events import notice_event
from app.desk.packets import offered_event
from app.desk.people import User, user_from_row
from app.desk.permissions import SUPERVISOR_GROUP
from app.desk.presence import PresenceService
from app.desk.routing import Alert, Offer, OnlineAgent, Plan, Waiting, plan_offers
from app.desk.scope import read_conversation
from app.desk.work import Desk, Work
from app.storage.leases import FencedError
from app.storage.tables import conversations, escalations, groups, presence, users

__all__ = ["Router"]

log = structlog.get_logger(__name__)

QUEUE_AT_MOST = 500
"""Escalations looked at in one go, the head of the queue; the rest can't be anybody's turn yet."""

IDLE_SECONDS = 30.0
"""At the latest where there is no other process, for what the command line changes."""

RETRY_SECONDS = 1.0

_QUEUE_COLUMNS = [
    escalations.c[name]
    for name in (
        "id", "shop_id", "group_id", "major", "deadline_ms", "offered_to", "offered_at_ms", "declined_by",
    )
]  # fmt: skip


ALERTS_AT_ONCE = 20
"""Notices written in one transaction, so that a long queue doesn't hold up everybody else's writes."""


@dataclass(frozen=True, slots=True)
class _Situation:
    """``next_deadline_ms``: when the next leader is to be told, of the whole queue."""

    queue: Sequence[Waiting]
    agents: Sequence[OnlineAgent]
    leaders: Mapping[str, int]
    now_ms: int
    next_deadline_ms: int | None = None


class Router:
    """One a process; see ``Duty`` for which of them routes."""

    def __init__(
        self,
        desk: Desk,
        *,
        presence: PresenceService,
        policy_of: PolicyOf,
        duty: Duty | None = None,
        wait_seconds: Callable[[], float] = lambda: IDLE_SECONDS,
    ) -> None:
        """``duty``: this process has it always unless given; ``wait_seconds``: how long to wait for a hint
        before looking by itself."""
        self._desk = desk
        self._presence = presence
        self._policy_of = policy_of
        self._duty = duty or Alone()
        self._wait_seconds = wait_seconds
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin routing; what waits already is offered at once."""
        self._task = asyncio.get_running_loop().create_task(self._loop(), name="router")

    async def stop(self) -> None:
        """End routing; offers stay as they are."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def kick(self) -> None:
        """Say that the queue, somebody's status or somebody's load has changed."""
        self._wake.set()

    async def route(self) -> float | None:
        """Make the offers that are due now; return in how many seconds to look again at the latest.

        Raises:
            FencedError: another process routes now; nothing was offered.
        """
        situation = await self._desk.database.read(self._look)
        plan = plan_offers(
            situation.queue, situation.agents, situation.leaders, now_ms=situation.now_ms
        )  # fmt: skip
        if plan.offers or plan.alerts:
            await self._desk.change(lambda work: self._apply(work, plan))
        if len(plan.alerts) > ALERTS_AT_ONCE:
            return 0.0
        due = [at for at in (plan.next_ms, situation.next_deadline_ms) if at is not None]
        return max(0, min(due) - situation.now_ms) / 1000 if due else None

    def _apply(self, work: Work, plan: Plan) -> None:
        self._duty.confirm(work.connection)
        now_ms = work.shared_now_ms()
        for alert in plan.alerts[:ALERTS_AT_ONCE]:
            _alert(work, alert, now_ms)
        for offer in plan.offers:
            _make(work, offer, now_ms)

    async def repeat_offers(self, user: User) -> None:
        """Tell an agent again what is offered to them now: they have just come and saw none of it."""

        def repeat(work: Work) -> None:
            rows = work.connection.execute(
                select(escalations)
                .where(escalations.c.state == "open", escalations.c.offered_to == user.id)
                .order_by(escalations.c.priority_rank.desc(), escalations.c.waiting_since_ms)
            ).mappings()
            for row in rows.all():
                until = (row["offered_at_ms"] or work.now_ms) + self._accept_ms(row["shop_id"])
                _tell(work, row, agent_id=user.id, until_ms=until)

        def has_any(connection: Connection) -> bool:
            query = select(escalations.c.id).where(
                escalations.c.state == "open", escalations.c.offered_to == user.id
            )
            return connection.execute(query.limit(1)).first() is not None

        if await self._desk.database.read(has_any):
            await self._desk.change(repeat)

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            seconds = self._wait_seconds()
            try:
                if self._duty.is_mine:
                    next_look = await self.route()
                    seconds = seconds if next_look is None else min(seconds, next_look)
            except FencedError:
                # Whoever has the duty now does it; this process hears of it by its leases.
                seconds = RETRY_SECONDS
            except UnavailableError:
                log.warning("desk.routing_failed")
                seconds = RETRY_SECONDS
            except Exception:  # routing must go on whatever one escalation holds
                log.exception("desk.routing_failed")
                seconds = RETRY_SECONDS
            nap = asyncio.ensure_future(self._desk.clock.sleep(seconds))
            hint = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({nap, hint}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                nap.cancel()
                hint.cancel()

    def _accept_ms(self, shop_id: str) -> int:
        return self._policy_of(shop_id).human_accept_seconds * 1000

    def _look(self, connection: Connection) -> _Situation:
        now_ms = self._desk.now_of(connection)
        agents = self._online(connection)
        query = select(*_QUEUE_COLUMNS).where(escalations.c.state == "open")
        if not agents:
            # Then nothing can be offered, and a long queue needn't be read each time somebody joins it.
            query = query.where(
                or_(escalations.c.deadline_ms <= now_ms, escalations.c.offered_to.is_not(None))
            )
        queue = [
            self._waiting(row)
            for row in connection.execute(
                query.order_by(
                    escalations.c.priority_rank.desc(), escalations.c.waiting_since_ms, escalations.c.id
                ).limit(QUEUE_AT_MOST)
            ).mappings()
        ]
        next_deadline_ms = connection.execute(
            select(func.min(escalations.c.deadline_ms)).where(
                escalations.c.state == "open", escalations.c.deadline_ms > now_ms
            )
        ).scalar()
        leaders: dict[str, int] = {}
        if queue:
            found = select(groups.c.id, groups.c.leader_id).where(groups.c.leader_id.is_not(None))
            leaders = {row.id: row.leader_id for row in connection.execute(found)}
        return _Situation(queue, agents, leaders, now_ms, next_deadline_ms)

    def _online(self, connection: Connection) -> list[OnlineAgent]:
        rows = connection.execute(
            select(users)
            .join(presence, presence.c.agent_id == users.c.id)
            .where(presence.c.status == "online", users.c.disabled.is_(False))
        ).mappings()
        here = self._presence.connected_agents(connection)
        people = [user_from_row(row) for row in rows if row["id"] in here]
        if not people:
            return []
        loads: dict[int, int] = {
            row.agent_id: row.held
            for row in connection.execute(
                select(conversations.c.agent_id, func.count().label("held"))
                .where(conversations.c.state == "human", conversations.c.agent_id.is_not(None))
                .group_by(conversations.c.agent_id)
            )
        }
        return [OnlineAgent(user, loads.get(user.id, 0)) for user in people]

    def _waiting(self, row: Mapping[Any, Any]) -> Waiting:
        policy = self._policy_of(row["shop_id"])
        return Waiting(
            id=row["id"],
            shop_id=row["shop_id"],
            group_id=row["group_id"],
            major=bool(row["major"]),
            deadline_ms=row["deadline_ms"],
            accept_ms=policy.human_accept_seconds * 1000,
            alert_ms=policy.leader_alert_seconds * 1000,
            offered_to=row["offered_to"],
            offered_at_ms=row["offered_at_ms"],
            passed=tuple(json.loads(row["declined_by"])),
        )


def _make(work: Work, offer: Offer, now_ms: int) -> None:
    was = escalations.c.offered_to
    changed = work.connection.execute(
        update(escalations)
        .where(
            escalations.c.id == offer.escalation_id,
            escalations.c.state == "open",
            was.is_(None) if offer.was is None else was == offer.was,
        )
        .values(
            offered_to=offer.agent_id,
            offered_at_ms=None if offer.agent_id is None else now_ms,
            declined_by=json.dumps(offer.passed),
        )
    ).rowcount
    if changed != 1:
        # Taken or declined since the plan was made; whoever did it kicks the router.
        return
    if offer.agent_id is None:
        return
    row = work.connection.execute(
        select(escalations).where(escalations.c.id == offer.escalation_id)
    ).mappings().one()  # fmt: skip
    _tell(work, row, agent_id=offer.agent_id, until_ms=offer.until_ms)


def _tell(work: Work, row: Mapping[Any, Any], *, agent_id: int, until_ms: int) -> None:
    conversation = read_conversation(work.connection, row["conversation_id"])
    work.events.append(
        offered_event(
            work.connection, row, conversation, agent_id=agent_id, deadline_ms=until_ms, now_ms=work.now_ms
        )
    )


def _alert(work: Work, alert: Alert, now_ms: int) -> None:
    row = (
        work.connection.execute(
            update(escalations)
            .where(escalations.c.id == alert.escalation_id, escalations.c.state == "open")
            .values(deadline_ms=alert.next_ms)
            .returning(escalations.c.conversation_id, escalations.c.waiting_since_ms, escalations.c.group_id)
        )
        .mappings()
        .one_or_none()
    )
    if row is None:
        return
    try:
        conversation = read_conversation(work.connection, row["conversation_id"])
    except NotFoundError:
        return
    minutes = max(1, (now_ms - row["waiting_since_ms"]) // 60_000)
    work.events.append(
        notice_event(
            code="escalation_waiting",
            text=f"买家已等待 {minutes} 分钟，{row['group_id']} 组还没有人接待。",
            now_ms=work.now_ms,
            conversation=conversation,
            agent_id=alert.leader_id,
            group_id=None if alert.leader_id is not None else SUPERVISOR_GROUP,
        )
    )
