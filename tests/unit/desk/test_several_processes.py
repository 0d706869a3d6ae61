"""One desk, two processes: agents connected to either, one queue, and a process that dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import insert, update

from app.core.errors import ConflictError
from app.core.metrics import Metrics
from app.desk.duty import DUTY_PARTITION, PartitionDuty
from app.desk.presence import Status
from app.domain.messages import Content
from app.storage.database import Database
from app.storage.leases import FencedError
from app.storage.tables import partition_leases
from tests.desk_world import DeskWorld, RecordingSubscriber
from tests.fakes import FakeClock, FakeIds
from tests.waiting import eventually

pytestmark = pytest.mark.postgres


class Pair:
    """Two processes on one PostgreSQL; the first owns partition 0."""

    def __init__(
        self, a: DeskWorld, b: DeskWorld, living: set[str], epochs: tuple[dict[int, int], ...]
    ) -> None:
        self.a = a
        self.b = b
        self.living = living
        self.epochs = epochs

    async def hand_over(self) -> None:
        """Give partition 0 to the second, as leases do; the first hasn't heard of it."""
        statement = update(partition_leases).values(epoch=partition_leases.c.epoch + 1)
        await self.a.database.write(lambda connection: connection.execute(statement).rowcount)
        self.epochs[1][DUTY_PARTITION] = 2


@pytest.fixture
async def pair(postgres_url: str, clock: FakeClock, ids: FakeIds) -> AsyncIterator[Pair]:
    living = {"a", "b"}
    epochs: tuple[dict[int, int], ...] = ({DUTY_PARTITION: 1}, {})
    first = await DeskWorld.open(postgres_url, clock=clock, ids=ids)
    worlds: list[DeskWorld] = []
    for name, held in zip("ab", epochs, strict=True):
        metrics = Metrics()
        database = Database(postgres_url, metrics=metrics)
        await database.open()
        worlds.append(
            DeskWorld(
                database,
                clock=clock,
                ids=ids,
                metrics=metrics,
                process=name,
                living=lambda _connection: living,
                duty=PartitionDuty(held),
            )
        )
    await first.database.write(
        lambda connection: (
            connection.execute(
                insert(partition_leases), {"partition": 0, "epoch": 1, "owner": "a", "lease_until_ms": 0}
            ).rowcount
        )
    )
    yield Pair(worlds[0], worlds[1], living, epochs)
    for one in (*worlds, first):
        await one.close()


async def test_an_agent_at_one_process_is_offered_what_waits_by_the_router_of_another(pair: Pair) -> None:
    agent = await pair.a.person("lin")
    await pair.b.come_online(agent)
    escalation = await pair.a.escalate(await pair.a.conversation())
    subscriber = RecordingSubscriber(agent)
    await pair.b.hub.start()
    await pair.b.hub.subscribe(subscriber, 0)

    await pair.a.router.route()

    await pair.a.clock.run_until(lambda: "escalation.offered" in subscriber.types(), step=0.2)
    assert (await pair.b.escalation_row(escalation))["offered_to"] == agent.id


async def test_of_two_who_accept_at_two_processes_one_wins_and_the_other_hears_who(pair: Pair) -> None:
    people = [await pair.a.person(f"agent-{number}") for number in range(10)]
    for round_number in range(10):
        conversation = await pair.a.conversation(f"c-{round_number}")
        escalation = await pair.a.escalate(conversation)

        outcomes = await asyncio.gather(
            *(
                (pair.a if number % 2 else pair.b).escalations.accept(person, escalation)
                for number, person in enumerate(people)
            ),
            return_exceptions=True,
        )

        won = [number for number, one in enumerate(outcomes) if isinstance(one, dict)]
        assert len(won) == 1
        lost = [one for one in outcomes if isinstance(one, ConflictError)]
        assert len(lost) == 9
        assert {(one.code, one.by) for one in lost} == {("taken", f"agent-{won[0]}")}
        assert (await pair.a.conversation_row(conversation))["agent_id"] == people[won[0]].id


async def test_a_process_that_lost_the_duty_offers_nothing_any_more(pair: Pair) -> None:
    agent = await pair.a.person("lin", max_load=1)
    await pair.a.come_online(agent)
    await pair.a.escalate(await pair.a.conversation())
    await pair.hand_over()

    with pytest.raises(FencedError):
        await pair.a.router.route()
    assert await pair.a.events("escalation.offered") == []
    await pair.b.router.route()

    assert len(await pair.b.events("escalation.offered")) == 1


async def test_two_routers_at_once_never_offer_somebody_more_than_they_have_room_for(pair: Pair) -> None:
    people = [await pair.a.person(f"agent-{number}", max_load=2) for number in range(3)]
    await pair.a.come_online(*people[:2])
    await pair.b.come_online(people[2])
    waiting = [await pair.a.escalate(await pair.a.conversation(f"c-{number}")) for number in range(12)]

    # The duty changes hands while both believe they have it.
    both = asyncio.gather(
        *(one.router.route() for _ in range(3) for one in (pair.a, pair.b)), return_exceptions=True
    )
    await pair.hand_over()
    await both
    await pair.b.router.route()

    offered: dict[int, int] = {}
    for escalation in waiting:
        to = (await pair.a.escalation_row(escalation))["offered_to"]
        if to is not None:
            offered[to] = offered.get(to, 0) + 1
    assert offered == {one.id: 2 for one in people}
    told = [event["data"]["escalation_id"] for event in await pair.a.events("escalation.offered")]
    assert len(told) == len(set(told)) == 6


async def test_an_agent_with_sockets_at_both_is_there_until_the_last_has_closed(pair: Pair) -> None:
    agent = await pair.a.person("lin")
    await pair.a.come_online(agent)
    await pair.b.presence.connected(agent)
    await pair.a.presence.disconnected(agent)
    assert await pair.a.database.read(pair.a.presence.connected_agents) == {agent.id}

    await pair.b.presence.disconnected(agent)

    assert await pair.a.database.read(pair.a.presence.connected_agents) == set()


async def test_a_process_that_dies_takes_its_agents_presence_along_and_their_minute_begins(
    pair: Pair,
) -> None:
    agent = await pair.a.person("lin")
    await pair.b.come_online(agent)
    conversation = await pair.a.conversation(state="human", agent=agent, group="presale")
    pair.a.clock.advance(3600)
    assert await pair.a.presence.sweep() == 0

    pair.living.discard("b")

    assert await pair.a.database.read(pair.a.presence.connected_agents) == set()
    assert await pair.a.presence.sweep() == 0
    pair.a.clock.advance(59)
    assert await pair.a.presence.sweep() == 0
    pair.a.clock.advance(1)
    assert await pair.a.presence.sweep() == 1
    assert (await pair.a.conversation_row(conversation))["state"] == "queued"


async def test_coming_back_at_another_process_keeps_what_was_held(pair: Pair) -> None:
    agent = await pair.a.person("lin")
    await pair.b.come_online(agent)
    conversation = await pair.a.conversation(state="human", agent=agent)
    pair.living.discard("b")
    await pair.a.presence.sweep()
    pair.a.clock.advance(40)
    await pair.a.presence.connected(agent)
    pair.a.clock.advance(600)

    assert await pair.a.presence.sweep() == 0
    assert (await pair.a.conversation_row(conversation))["agent_id"] == agent.id


async def test_two_sweeps_at_once_give_each_conversation_back_once(pair: Pair) -> None:
    agent = await pair.a.person("lin")
    held = [
        await pair.a.conversation(f"c-{number}", state="human", agent=agent, group="presale")
        for number in range(8)
    ]
    pair.epochs[1][DUTY_PARTITION] = 1

    given = await asyncio.gather(pair.a.presence.sweep(), pair.b.presence.sweep())

    assert sum(given) == len(held)
    assert [(await pair.a.conversation_row(one))["state"] for one in held] == ["queued"] * len(held)


async def test_a_process_taken_for_dead_notes_its_agents_again(pair: Pair) -> None:
    agent = await pair.b.person("lin")
    await pair.b.come_online(agent)
    pair.living.discard("b")
    await pair.a.presence.sweep()
    pair.living.add("b")
    pair.b.presence.start()

    async def is_back() -> bool:
        return await pair.a.database.read(pair.a.presence.connected_agents) == {agent.id}

    await pair.b.clock.run_until(is_back)


async def test_taking_over_and_signing_out_reach_the_sockets_of_other_processes(pair: Pair) -> None:
    agent, other = await pair.a.person("lin"), await pair.a.person("he")
    theirs, others = RecordingSubscriber(agent), RecordingSubscriber(other)
    await pair.b.hub.start()
    await pair.b.hub.subscribe(theirs, 0)
    await pair.b.hub.subscribe(others, 0)

    await pair.a.presence.take_over(agent, "socket-7")

    await pair.b.clock.run_until(lambda: theirs.controls, step=0.2)
    assert theirs.controls == [("control.taken_over", {"keep": "socket-7"})]
    assert (theirs.frames, others.frames, others.controls) == ([], [], [])
    late = RecordingSubscriber(agent)
    await pair.a.hub.start()
    await pair.a.hub.subscribe(late, 0)
    assert (late.frames, late.controls) == ([], [])


async def test_both_see_the_same_events_in_the_same_order_whoever_caused_them(pair: Pair) -> None:
    agent = await pair.a.person("lin")
    conversation = await pair.a.conversation(state="human", agent=agent)
    seen: list[RecordingSubscriber] = []
    for one in (pair.a, pair.b):
        subscriber = RecordingSubscriber(agent)
        await one.hub.start()
        await one.hub.subscribe(subscriber, 0)
        seen.append(subscriber)

    async def talk(world: DeskWorld, name: str) -> None:
        for number in range(15):
            await world.sending.send(
                agent, conversation, Content(text=f"{name}{number}"), client_message_id=f"{name}{number}"
            )

    await asyncio.gather(talk(pair.a, "a"), talk(pair.b, "b"))
    await pair.a.clock.run_until(
        lambda: all(one.types().count("message.created") == 31 for one in seen), step=0.2
    )

    assert seen[0].frames == seen[1].frames
    row: Any = await pair.a.conversation_row(conversation)
    assert row["last_seq"] == 31


async def test_a_status_set_at_one_process_is_seen_at_the_other(pair: Pair) -> None:
    agent = await pair.a.person("lin")
    await pair.b.come_online(agent)
    await pair.a.escalate(await pair.a.conversation())
    await pair.b.presence.set_status(agent, Status.BUSY)

    await pair.a.router.route()

    assert await pair.a.events("escalation.offered") == []
    assert await eventually(lambda: pair.a.presence.seat(agent))
