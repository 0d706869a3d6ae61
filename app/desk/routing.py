"""Who is offered which escalation: a pure choice over the queue and the agents who are online.

Source: the design notes on the desk (least-loaded eligible agent, next after a timeout, then the leader), and the
domain rules: E1 and E2 reach somebody even when nobody of the group is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.desk.people import User
from app.desk.permissions import Permission

__all__ = ["Alert", "Offer", "OnlineAgent", "Plan", "Waiting", "plan_offers"]


@dataclass(frozen=True, slots=True)
class OnlineAgent:
    """Somebody who may be offered something: connected and ``online``. ``load``: conversations they hold now."""

    user: User
    load: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An open escalation. ``passed``: who declined it or let it wait; lengths in milliseconds from shop settings."""

    id: int
    shop_id: str
    group_id: str
    major: bool
    deadline_ms: int
    accept_ms: int
    alert_ms: int
    offered_to: int | None = None
    offered_at_ms: int | None = None
    passed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Offer an escalation to somebody (None: take the old offer back). ``was`` is whom it was offered to before."""

    escalation_id: int
    agent_id: int | None
    was: int | None
    passed: tuple[int, ...]
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Tell a group's leader (None: the supervisors) that an escalation waits too long; again at ``next_ms``."""

    escalation_id: int
    leader_id: int | None
    next_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and when to look again at the latest (None: only when something changes)."""

    offers: tuple[Offer, ...] = ()
    alerts: tuple[Alert, ...] = ()
    next_ms: int | None = None


@dataclass(slots=True)
class _Room:
    """How many conversations each agent has, counting what is offered to them and what this plan adds."""

    load: dict[int, int] = field(default_factory=dict[int, int])

    def least_loaded(self, agents: Sequence[OnlineAgent], *, ignore_limit: bool) -> OnlineAgent | None:
        fitting = [one for one in agents if ignore_limit or self.load[one.user.id] < one.user.max_load]
        return min(fitting, key=lambda one: (self.load[one.user.id], one.user.id), default=None)


def plan_offers(
    queue: Sequence[Waiting], agents: Sequence[OnlineAgent], leaders: Mapping[str, int], *, now_ms: int
) -> Plan:
    """Choose offers for a queue given in its order (priority, then waiting time).

    An offer that still runs stays. One that ran out goes to the next agent, and round again when all have had it;
    who declined isn't asked again until the leader has been told.
    """
    room = _Room({agent.user.id: agent.load for agent in agents})
    due: list[int] = []
    pending: list[Waiting] = []
    for waiting in queue:
        until = (waiting.offered_at_ms or 0) + waiting.accept_ms
        if waiting.offered_to in room.load and now_ms < until:
            room.load[waiting.offered_to] += 1
            due.append(until)
        else:
            pending.append(waiting)
    alerts = [
        Alert(escalation_id=one.id, leader_id=leaders.get(one.group_id), next_ms=now_ms + one.alert_ms)
        for one in queue
        if now_ms >= one.deadline_ms
    ]
    alerted = {alert.escalation_id for alert in alerts}
    due += [alert.next_ms for alert in alerts]
    due += [one.deadline_ms for one in queue if one.id not in alerted]
    offers: list[Offer] = []
    for waiting in pending:
        offer = _offer(waiting, agents, leaders, room, start_over=waiting.id in alerted, now_ms=now_ms)
        if offer is None:
            continue
        offers.append(offer)
        if offer.agent_id is not None:
            room.load[offer.agent_id] += 1
            due.append(offer.until_ms)
    return Plan(tuple(offers), tuple(alerts), min(due, default=None))


def _offer(
    waiting: Waiting,
    agents: Sequence[OnlineAgent],
    leaders: Mapping[str, int],
    room: _Room,
    *,
    start_over: bool,
    now_ms: int,
) -> Offer | None:
    passed = () if start_over else waiting.passed
    ran_out = waiting.offered_to is not None and waiting.offered_to in room.load
    if ran_out and waiting.offered_to is not None:
        passed = (*(one for one in passed if one != waiting.offered_to), waiting.offered_to)
    tiers = _tiers(waiting, agents, leaders)
    chosen = _choose(tiers, room, passed, ignore_limit=waiting.major)
    if chosen is None and ran_out:
        # Everybody had it once: begin again, with whoever let it wait last at the end.
        last = passed[-1:]
        chosen = _choose(tiers, room, last, ignore_limit=waiting.major) or _choose(
            tiers, room, (), ignore_limit=waiting.major
        )
        passed = last
    if chosen is None and waiting.offered_to is None:
        return None
    return Offer(
        escalation_id=waiting.id,
        agent_id=None if chosen is None else chosen.user.id,
        was=waiting.offered_to,
        passed=passed,
        until_ms=now_ms + waiting.accept_ms,
    )


def _choose(
    tiers: Sequence[Sequence[OnlineAgent]], room: _Room, passed: Sequence[int], *, ignore_limit: bool
) -> OnlineAgent | None:
    for tier in tiers:
        asked = [agent for agent in tier if agent.user.id not in passed]
        chosen = room.least_loaded(asked, ignore_limit=ignore_limit)
        if chosen is not None:
            return chosen
    return None


def _tiers(
    waiting: Waiting, agents: Sequence[OnlineAgent], leaders: Mapping[str, int]
) -> list[list[OnlineAgent]]:
    eligible = [agent for agent in agents if agent.user.sees_shop(waiting.shop_id)]
    members = [agent for agent in eligible if agent.user.serves(waiting.group_id)]
    supervisors = [agent for agent in eligible if agent.user.may(Permission.SUPERVISE)]
    if waiting.major:
        leading = set(leaders.values())
        return [members, supervisors, [one for one in eligible if one.user.id in leading], eligible]
    # While members are online but full, the queue waits for them; supervisors stand in for an empty group.
    return [members or supervisors]
