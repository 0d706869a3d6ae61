"""Statuses last, leases don't."""

from __future__ import annotations

from app.desk.presence import PresenceService, Status
from tests.desk_world import DeskWorld


async def test_a_new_person_is_offline_and_a_chosen_status_survives_disconnecting_and_a_restart(
    world: DeskWorld,
) -> None:
    agent = await world.person("lin")
    assert (await world.presence.seat(agent)).status is Status.OFFLINE
    await world.come_online(agent)
    await world.presence.set_status(agent, Status.RESTING, reason="用餐")
    await world.presence.disconnected(agent)

    restarted = PresenceService(world.desk, policy_of=world.policy_of)

    seat = await restarted.seat(agent)
    assert (seat.status, seat.reason) == (Status.RESTING, "用餐")


async def test_conversations_stay_for_a_minute_and_then_return_to_their_old_place(world: DeskWorld) -> None:
    agent = await world.person("lin")
    await world.come_online(agent)
    conversation = await world.conversation()
    escalation = await world.escalate(conversation)
    await world.escalations.accept(agent, escalation)
    before = await world.escalation_row(escalation)
    world.clock.advance(300)
    await world.presence.disconnected(agent)

    world.clock.advance(59)
    assert await world.presence.sweep() == 0
    world.clock.advance(1)
    assert await world.presence.sweep() == 1

    row = await world.conversation_row(conversation)
    assert (row["state"], row["agent_id"], row["group_id"]) == ("queued", None, "presale")
    after = await world.escalation_row(escalation)
    assert (after["state"], after["waiting_since_ms"]) == ("open", before["waiting_since_ms"])


async def test_coming_back_within_the_minute_keeps_everything(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    await lite.come_online(agent)
    conversation = await lite.conversation(state="human", agent=agent)
    lite.clock.advance(300)
    await lite.presence.disconnected(agent)
    lite.clock.advance(50)
    await lite.presence.connected(agent)
    lite.clock.advance(50)

    assert await lite.presence.sweep() == 0
    assert (await lite.conversation_row(conversation))["agent_id"] == agent.id


async def test_after_a_restart_the_minute_counts_from_the_start(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation(state="human", agent=agent)
    lite.clock.advance(3600)
    restarted = PresenceService(lite.desk, policy_of=lite.policy_of)
    restarted.start()

    lite.clock.advance(59)
    assert await restarted.sweep() == 0
    lite.clock.advance(1)
    assert await restarted.sweep() == 1
    await restarted.stop()
    assert (await lite.conversation_row(conversation))["state"] == "queued"


async def test_an_open_socket_keeps_the_lease(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    await lite.come_online(agent)
    await lite.presence.connected(agent)
    await lite.presence.disconnected(agent)
    conversation = await lite.conversation(state="human", agent=agent)
    lite.presence.start()

    await lite.clock.run_for(600)

    assert (await lite.conversation_row(conversation))["agent_id"] == agent.id
