"""Every change of owner raises the version by one, and only those who may make it can."""

from __future__ import annotations

import pytest

from app.core.errors import ConflictError, ForbiddenError, InvalidError
from app.desk.permissions import Role
from tests.desk_world import DeskWorld


async def test_claiming_from_the_queue_settles_the_escalation_too(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation()
    escalation = await world.escalate(conversation)

    await world.conversations.claim(agent, conversation)

    row = await world.conversation_row(conversation)
    assert (row["state"], row["agent_id"], row["version"]) == ("human", agent.id, 3)
    settled = await world.escalation_row(escalation)
    assert (settled["state"], settled["accepted_by"]) == ("accepted", agent.id)
    assert len(await world.events("escalation.taken")) == 1


async def test_claiming_again_changes_nothing(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation()

    first = await lite.conversations.claim(agent, conversation)
    assert await lite.conversations.claim(agent, conversation) == first
    assert (await lite.conversation_row(conversation))["version"] == 2


async def test_a_held_conversation_cannot_be_claimed_but_one_answered_elsewhere_can(lite: DeskWorld) -> None:
    holder, other = await lite.person("lin"), await lite.person("he")
    held = await lite.conversation("c-1", state="human", agent=holder)
    answered_elsewhere = await lite.conversation("c-2", state="human")

    with pytest.raises(ConflictError) as refused:
        await lite.conversations.claim(other, held)
    assert (refused.value.code, refused.value.by) == ("held_by", "lin")
    assert (await lite.conversations.claim(other, answered_elsewhere))["agent_id"] == str(other.id)


async def test_releasing_gives_the_conversation_back_to_the_bot(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation()
    escalation = await world.escalate(conversation)
    await world.escalations.accept(agent, escalation)

    await world.conversations.release(agent, conversation)

    row = await world.conversation_row(conversation)
    assert (row["state"], row["agent_id"], row["group_id"], row["version"]) == ("bot", None, None, 4)
    assert (await world.escalation_row(escalation))["state"] == "closed"
    assert (await world.events("conversation.updated"))[-1]["agent_id"] == agent.id


async def test_resolving_closes_the_conversation_and_its_escalation_once(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation()
    escalation = await world.escalate(conversation)
    await world.escalations.accept(agent, escalation)

    answer = await world.conversations.resolve(agent, conversation, outcome="solved")
    again = await world.conversations.resolve(agent, conversation, outcome="solved")

    assert answer["state"] == again["state"] == "closed"
    assert (await world.escalation_row(escalation))["state"] == "closed"
    (closed,) = await world.events("conversation.closed")
    assert closed["agent_id"] == agent.id


async def test_a_colleagues_conversation_can_be_neither_released_nor_resolved_nor_moved(
    lite: DeskWorld,
) -> None:
    holder, other = await lite.person("lin"), await lite.person("he")
    conversation = await lite.conversation(state="human", agent=holder, group="presale")

    for change in (
        lite.conversations.release(other, conversation),
        lite.conversations.resolve(other, conversation, outcome="solved"),
        lite.conversations.transfer(other, conversation, group_id="vip", note=""),
    ):
        with pytest.raises(ConflictError) as refused:
            await change
        assert refused.value.code == "held_by"


async def test_a_transfer_to_a_group_keeps_the_place_in_the_queue_and_the_note(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation()
    escalation = await world.escalate(conversation)
    await world.escalations.accept(agent, escalation)
    before = await world.escalation_row(escalation)
    world.clock.advance(120)

    await world.conversations.transfer(agent, conversation, group_id="aftersale", note="要退货")

    row = await world.conversation_row(conversation)
    assert (row["state"], row["agent_id"], row["group_id"]) == ("queued", None, "aftersale")
    again = await world.escalation_row(escalation)
    assert (again["state"], again["group_id"]) == ("open", "aftersale")
    assert again["waiting_since_ms"] == before["waiting_since_ms"]
    assert (await world.events("message.created"))[-1]["data"]["direction"] == "note"


async def test_a_transfer_to_a_colleague_tells_both(lite: DeskWorld) -> None:
    agent, colleague = await lite.person("lin"), await lite.person("he")
    conversation = await lite.conversation(state="human", agent=agent)

    await lite.conversations.transfer(agent, conversation, agent_id=colleague.id, note="")

    assert (await lite.conversation_row(conversation))["agent_id"] == colleague.id
    assert [event["agent_id"] for event in await lite.events("conversation.assigned")] == [colleague.id]
    assert (await lite.events("conversation.updated"))[-1]["agent_id"] == agent.id


async def test_a_transfer_needs_exactly_one_known_target(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    blind = await lite.person("he", shops=["s2"])
    conversation = await lite.conversation(state="human", agent=agent)

    for target in ({}, {"agent_id": 1, "group_id": "vip"}, {"group_id": "nope"}, {"agent_id": blind.id}):
        with pytest.raises(InvalidError):
            await lite.conversations.transfer(agent, conversation, note="", **target)  # pyright: ignore[reportArgumentType]


async def test_only_a_supervisor_takes_over_and_the_holder_is_told(lite: DeskWorld) -> None:
    holder = await lite.person("lin")
    boss = await lite.person("boss", role=Role.SUPERVISOR)
    conversation = await lite.conversation(state="human", agent=holder)

    with pytest.raises(ForbiddenError):
        await lite.conversations.take_over(holder, conversation)
    await lite.conversations.take_over(boss, conversation)

    row = await lite.conversation_row(conversation)
    assert (row["agent_id"], row["version"]) == (boss.id, 2)
    assert (await lite.events("conversation.updated"))[-1]["agent_id"] == holder.id


async def test_reading_clears_the_unread_count(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation(state="human", agent=agent)

    await lite.conversations.read(agent, conversation)
    assert (await lite.conversation_row(conversation))["unread"] == 0


async def test_a_supervisor_closes_what_only_the_bot_holds(lite: DeskWorld) -> None:
    boss = await lite.person("boss", role=Role.SUPERVISOR)
    agent = await lite.person("lin")
    conversation = await lite.conversation()

    with pytest.raises(ConflictError) as refused:
        await lite.conversations.resolve(agent, conversation, outcome="spam")
    assert refused.value.code == "not_held"
    assert (await lite.conversations.resolve(boss, conversation, outcome="spam"))["state"] == "closed"
    with pytest.raises(ConflictError) as refused:
        await lite.conversations.transfer(boss, conversation, group_id="vip", note="")
    assert refused.value.code == "closed"
