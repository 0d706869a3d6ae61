"""Exactly one agent wins, whatever the number of those who try."""

from __future__ import annotations

import asyncio

import pytest

from app.core.errors import ConflictError, NotFoundError
from app.desk.permissions import Role
from app.domain.conversations import Priority
from tests.desk_world import DeskWorld


async def test_the_one_who_accepts_holds_the_conversation(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation()
    escalation = await world.escalate(conversation)
    before = await world.conversation_row(conversation)
    world.changed.clear()

    answer = await world.escalations.accept(agent, escalation)

    row = await world.conversation_row(conversation)
    assert (row["state"], row["agent_id"], row["version"]) == ("human", agent.id, before["version"] + 1)
    assert answer["state"] == "human"
    assert answer["agent_id"] == str(agent.id)
    assert answer["buyer"]["tags"] == ["老客"]
    assert world.changed == [conversation]
    (taken,) = await world.events("escalation.taken")
    assert taken["data"]["by"] == "lin"
    assert taken["group_id"] == "presale"


@pytest.mark.parametrize(
    "rounds", [10, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
async def test_of_a_hundred_who_accept_at_once_one_wins_and_the_others_hear_who(
    world: DeskWorld, rounds: int
) -> None:
    agents = [await world.person(f"agent-{number}") for number in range(100)]
    names = {agent.name for agent in agents}
    for number in range(rounds):
        conversation = await world.conversation(f"c-{number}")
        escalation = await world.escalate(conversation)

        answers = await asyncio.gather(
            *(world.escalations.accept(agent, escalation) for agent in agents), return_exceptions=True
        )

        winners = [answer for answer in answers if isinstance(answer, dict)]
        losers = [answer for answer in answers if isinstance(answer, ConflictError)]
        assert len(winners) == 1
        assert len(losers) == 99
        assert {loser.code for loser in losers} == {"taken"}
        (by,) = {loser.by for loser in losers}
        assert by in names
        row = await world.conversation_row(conversation)
        assert str(row["agent_id"]) == winners[0]["agent_id"]
        assert len(await world.events("conversation.assigned")) == number + 1


async def test_accepting_again_gives_the_winner_the_same_answer(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    escalation = await lite.escalate(await lite.conversation())

    first = await lite.escalations.accept(agent, escalation)
    assert await lite.escalations.accept(agent, escalation) == first
    assert len(await lite.events("escalation.taken")) == 1


async def test_an_escalation_of_another_group_or_shop_does_not_exist_for_an_agent(lite: DeskWorld) -> None:
    elsewhere = await lite.person("a", groups=["aftersale"])
    other_shop = await lite.person("b", groups=["presale"], shops=["s2"])
    escalation = await lite.escalate(await lite.conversation())

    for agent in (elsewhere, other_shop):
        with pytest.raises(NotFoundError):
            await lite.escalations.accept(agent, escalation)
        with pytest.raises(NotFoundError):
            await lite.escalations.decline(agent, escalation)
    assert (await lite.escalation_row(escalation))["state"] == "open"


async def test_a_supervisor_may_accept_for_any_group_of_their_shops(lite: DeskWorld) -> None:
    boss = await lite.person("boss", role=Role.SUPERVISOR)
    escalation = await lite.escalate(await lite.conversation())

    assert (await lite.escalations.accept(boss, escalation))["agent_id"] == str(boss.id)


async def test_a_withdrawn_escalation_tells_that_nobody_is_needed(lite: DeskWorld) -> None:
    boss = await lite.person("boss", role=Role.SUPERVISOR)
    agent = await lite.person("lin")
    conversation = await lite.conversation()
    escalation = await lite.escalate(conversation)
    await lite.conversations.release(boss, conversation)

    with pytest.raises(ConflictError) as refused:
        await lite.escalations.accept(agent, escalation)
    assert refused.value.code == "withdrawn"
    assert (await lite.conversation_row(conversation))["state"] == "bot"
    assert [event["group_id"] for event in await lite.events("escalation.withdrawn")] == ["presale"]


async def test_the_packet_masks_the_receiver_and_holds_three_suggestions_and_the_transcript(
    lite: DeskWorld,
) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation()
    await lite.come_online(agent)
    await lite.escalate(conversation, priority=Priority.URGENT)

    await lite.router.route()

    (offered,) = await lite.events("escalation.offered")
    assert offered["agent_id"] == agent.id
    packet = offered["data"]
    assert packet["order"]["receiver"] == {"name": "王*", "phone": "138****1234"}
    assert len(packet["suggestions"]) == 3
    assert [message["content"]["text"] for message in packet["transcript"]] == ["我要投诉你们,打12315"]
    assert (packet["reason"], packet["priority"]) == ("legal", "urgent")
    assert packet["waiting_since"] == "2026-11-21T08:00:00.000Z"
    assert packet["deadline"] == "2026-11-21T08:01:00.000Z"
    assert packet["conversation"]["id"] == str(conversation)
