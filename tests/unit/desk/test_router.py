"""The router at work: offers follow statuses, declines, time and capacity."""

from __future__ import annotations

from typing import Any

from app.desk.permissions import Role
from app.desk.presence import Status
from app.domain.conversations import Priority
from tests.desk_world import DeskWorld
from tests.waiting import eventually


async def offers(world: DeskWorld) -> list[tuple[str, Any]]:
    return [
        (event["data"]["escalation_id"], event["agent_id"])
        for event in await world.events("escalation.offered")
    ]


async def test_an_escalation_waits_until_somebody_comes_and_then_reaches_them_at_once(
    world: DeskWorld,
) -> None:
    agent = await world.person("lin")
    escalation = await world.escalate(await world.conversation())
    world.router.start()
    assert await offers(world) == []

    await world.come_online(agent)

    assert await eventually(lambda: offers(world), what="the offer") == [(str(escalation), agent.id)]
    assert (await world.escalation_row(escalation))["offered_to"] == agent.id


async def test_the_head_of_the_queue_is_the_most_urgent_then_the_longest_waiting(lite: DeskWorld) -> None:
    agent = await lite.person("lin", max_load=3)
    normal = await lite.escalate(await lite.conversation("c-1"))
    lite.clock.advance(5)
    later = await lite.escalate(await lite.conversation("c-2"))
    urgent = await lite.escalate(await lite.conversation("c-3"), priority=Priority.URGENT)
    await lite.escalate(await lite.conversation("c-4"), priority=Priority.LOW)
    await lite.come_online(agent)

    await lite.router.route()

    assert [offer for offer, _ in await offers(lite)] == [str(urgent), str(normal), str(later)]


async def test_a_declined_offer_goes_to_the_next_agent(world: DeskWorld) -> None:
    first, second = await world.person("lin"), await world.person("he")
    await world.come_online(first, second)
    escalation = await world.escalate(await world.conversation())
    await world.router.route()

    await world.escalations.decline(first, escalation)
    await world.router.route()

    assert [agent for _, agent in await offers(world)] == [first.id, second.id]


async def test_an_offer_that_is_not_accepted_in_a_minute_moves_on_and_after_three_the_supervisors_hear(
    lite: DeskWorld,
) -> None:
    first, second = await lite.person("lin"), await lite.person("he")
    await lite.come_online(first, second)
    await lite.escalate(await lite.conversation())
    lite.presence.start()
    lite.router.start()
    await eventually(lambda: offers(lite))

    await lite.clock.run_until(lambda: _at_least(lite, "escalation.offered", 2), step=5)
    await lite.clock.run_until(lambda: lite.events("notice"), step=5)
    (notice,) = await lite.events("notice")

    assert [agent for _, agent in await offers(lite)][:2] == [first.id, second.id]
    assert notice["group_id"] == "supervisor"
    assert "3 分钟" in notice["data"]["text"]


async def test_room_that_opens_is_filled_from_the_queue(lite: DeskWorld) -> None:
    agent = await lite.person("lin", max_load=1)
    await lite.come_online(agent)
    first = await lite.conversation("c-1")
    escalation = await lite.escalate(first)
    waiting = await lite.escalate(await lite.conversation("c-2"))
    lite.router.start()
    await eventually(lambda: offers(lite))
    await lite.escalations.accept(agent, escalation)

    await lite.conversations.resolve(agent, first, outcome="solved")

    await eventually(lambda: _at_least(lite, "escalation.offered", 2))
    assert (await offers(lite))[-1] == (str(waiting), agent.id)


async def test_a_grave_case_reaches_whoever_is_online_when_no_supervisor_is(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    await lite.person("boss", role=Role.SUPERVISOR)
    await lite.come_online(agent)
    escalation = await lite.escalate(await lite.conversation(), group="supervisor", major=True)

    await lite.router.route()

    assert await offers(lite) == [(str(escalation), agent.id)]
    assert (await lite.escalations.accept(agent, escalation))["agent_id"] == str(agent.id)
    addressed = [(event["group_id"], event["agent_id"]) for event in await lite.events("escalation.taken")]
    assert addressed == [("supervisor", None), (None, agent.id)]


async def test_resting_agents_are_not_asked_and_lose_what_is_offered_to_them(lite: DeskWorld) -> None:
    agent, other = await lite.person("lin"), await lite.person("he")
    await lite.come_online(agent)
    escalation = await lite.escalate(await lite.conversation())
    await lite.router.route()
    await lite.come_online(other)

    await lite.presence.set_status(agent, Status.RESTING, reason="用餐")
    await lite.router.route()

    assert (await lite.escalation_row(escalation))["offered_to"] == other.id


async def _at_least(world: DeskWorld, kind: str, number: int) -> bool:
    return len(await world.events(kind)) >= number


async def test_a_long_queue_without_anybody_online_alerts_in_small_portions_and_is_served_later(
    lite: DeskWorld,
) -> None:
    for number in range(30):
        await lite.escalate(await lite.conversation(f"c-{number}"))
    assert await lite.router.route() == 180
    assert await lite.events("notice") == []
    lite.clock.advance(180)

    assert await lite.router.route() == 0
    assert len(await lite.events("notice")) == 20
    await lite.router.route()
    assert len(await lite.events("notice")) == 30
    assert await lite.router.route() == 180

    agent = await lite.person("lin", max_load=40)
    await lite.come_online(agent)
    await lite.router.route()
    assert len(await offers(lite)) == 30
