"""Who is offered what: the pure choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.desk.people import User
from app.desk.permissions import Role
from app.desk.routing import OnlineAgent, Plan, Waiting, plan_offers

NOW = 1_000_000


def agent(number: int, *, load: int = 0, role: Role = Role.AGENT, **values: Any) -> OnlineAgent:
    return OnlineAgent(User(id=number, name=f"u{number}", display_name="", role=role, **values), load)


def waiting(number: int = 1, **values: Any) -> Waiting:
    return replace(
        Waiting(
            id=number, shop_id="s1", group_id="presale", major=False, deadline_ms=NOW + 180_000, accept_ms=60_000,
            alert_ms=180_000,
        ),
        **values,
    )  # fmt: skip


def offered(plan: Plan) -> dict[int, int | None]:
    return {offer.escalation_id: offer.agent_id for offer in plan.offers}


def test_the_least_loaded_member_of_the_group_is_offered_first() -> None:
    agents = [agent(1, load=3), agent(2, load=1), agent(3, load=0, groups=("vip",))]
    plan = plan_offers([waiting()], agents, {}, now_ms=NOW)
    assert offered(plan) == {1: 2}
    assert plan.next_ms == NOW + 60_000


def test_a_queue_spreads_over_the_agents_in_its_order() -> None:
    plan = plan_offers([waiting(1), waiting(2), waiting(3)], [agent(1, load=1), agent(2)], {}, now_ms=NOW)
    assert offered(plan) == {1: 2, 2: 1, 3: 2}


def test_nobody_is_offered_more_than_they_can_hold_and_running_offers_count() -> None:
    busy = agent(1, load=7)
    running = waiting(1, offered_to=1, offered_at_ms=NOW - 1)
    plan = plan_offers([running, waiting(2)], [busy], {}, now_ms=NOW)
    assert offered(plan) == {}


@pytest.mark.parametrize("shops", [("s2",), ("s2", "s3")])
def test_an_agent_of_another_shop_is_not_asked(shops: tuple[str, ...]) -> None:
    assert offered(plan_offers([waiting()], [agent(1, shops=shops)], {}, now_ms=NOW)) == {}


def test_an_offer_that_ran_out_goes_to_the_next_and_round_again() -> None:
    agents = [agent(1), agent(2), agent(3)]
    one = waiting(offered_to=1, offered_at_ms=NOW - 60_000)
    order: list[int | None] = []
    for turn in range(4):
        (offer,) = plan_offers([one], agents, {}, now_ms=NOW + turn * 60_000).offers
        order.append(offer.agent_id)
        one = replace(
            one, offered_to=offer.agent_id, offered_at_ms=NOW + turn * 60_000, passed=offer.passed,
            deadline_ms=NOW * 10,
        )  # fmt: skip
    assert order == [2, 3, 1, 2]


def test_a_lone_agent_is_asked_again_after_the_time_ran_out_but_not_after_declining() -> None:
    ran_out = waiting(offered_to=1, offered_at_ms=NOW - 60_000)
    assert offered(plan_offers([ran_out], [agent(1)], {}, now_ms=NOW)) == {1: 1}
    declined = waiting(passed=(1,))
    assert offered(plan_offers([declined], [agent(1)], {}, now_ms=NOW)) == {}


def test_an_offer_to_somebody_who_left_moves_on_at_once_or_is_taken_back() -> None:
    left = waiting(offered_to=9, offered_at_ms=NOW - 1_000)
    assert offered(plan_offers([left], [agent(1)], {}, now_ms=NOW)) == {1: 1}
    assert offered(plan_offers([left], [], {}, now_ms=NOW)) == {1: None}


def test_after_three_minutes_the_leader_is_told_and_those_who_declined_are_asked_again() -> None:
    late = waiting(deadline_ms=NOW, passed=(1,))
    plan = plan_offers([late], [agent(1)], {"presale": 7}, now_ms=NOW)
    assert [(alert.leader_id, alert.next_ms) for alert in plan.alerts] == [(7, NOW + 180_000)]
    assert offered(plan) == {1: 1}
    assert plan_offers([late], [], {}, now_ms=NOW).alerts[0].leader_id is None


def test_supervisors_stand_in_for_a_group_where_nobody_is_online_but_not_where_all_are_full() -> None:
    boss = agent(5, role=Role.SUPERVISOR)
    assert offered(plan_offers([waiting()], [boss], {}, now_ms=NOW)) == {1: 5}
    assert offered(plan_offers([waiting()], [agent(1, load=8), boss], {}, now_ms=NOW)) == {}


def test_a_grave_case_reaches_a_supervisor_else_a_leader_else_anybody_even_when_full() -> None:
    grave = waiting(group_id="supervisor", major=True)
    member = agent(4, groups=("supervisor", "vip"), load=8)
    leader, other = agent(2, load=8), agent(1)
    boss = agent(3, role=Role.ADMIN, load=8)
    leaders = {"presale": 2}
    assert offered(plan_offers([grave], [other, leader, member], leaders, now_ms=NOW)) == {1: 4}
    assert offered(plan_offers([grave], [other, leader, boss], leaders, now_ms=NOW)) == {1: 3}
    assert offered(plan_offers([grave], [other, leader], leaders, now_ms=NOW)) == {1: 2}
    assert offered(plan_offers([grave], [other], leaders, now_ms=NOW)) == {1: 1}


def test_with_nobody_there_everything_stays_queued() -> None:
    plan = plan_offers([waiting()], [], {}, now_ms=NOW)
    assert plan.offers == ()
    assert plan.next_ms == NOW + 180_000
