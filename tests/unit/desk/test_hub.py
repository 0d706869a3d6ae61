"""No event is lost between the log and those who may see it, and nobody else sees it."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import delete

from app.desk.events import append_events, notice_event
from app.desk.permissions import Role
from app.storage.tables import console_events
from tests.desk_world import DeskWorld, RecordingSubscriber
from tests.waiting import eventually


async def tell(world: DeskWorld, text: str, **audience: int | str) -> None:
    event = notice_event(code="t", text=text, now_ms=world.clock.now_ms(), **audience)  # pyright: ignore[reportArgumentType]
    await world.database.write(lambda connection: append_events(connection, [event]))
    world.hub.notify()


async def test_events_are_pushed_in_order_and_resume_without_loss_over_reconnects(world: DeskWorld) -> None:
    agent = await world.person("lin")
    await world.hub.start()
    told = [str(number) for number in range(60)]
    seen: list[tuple[int, str]] = []

    async def talk() -> None:
        for text in told:
            await tell(world, text, agent_id=agent.id)

    talking = asyncio.create_task(talk())
    cursor = 0
    while len(seen) < len(told):
        subscriber = RecordingSubscriber(agent)
        await world.hub.subscribe(subscriber, cursor)
        await eventually(lambda one=subscriber: one.frames)
        world.hub.unsubscribe(subscriber)
        frames = subscriber.frames[:7]  # what came after is lost with the connection
        seen += [(frame["seq"], frame["data"]["text"]) for frame in frames]
        cursor = seen[-1][0]
    await talking

    assert [text for _, text in seen] == told
    assert [seq for seq, _ in seen] == sorted({seq for seq, _ in seen})


async def test_who_sees_what(lite: DeskWorld) -> None:
    holder = await lite.person("holder", groups=["presale"])
    member = await lite.person("member", groups=["presale"])
    other = await lite.person("other", groups=["vip"])
    boss = await lite.person("boss", role=Role.SUPERVISOR)
    far_boss = await lite.person("far", role=Role.SUPERVISOR, shops=["s2"])
    people = {user.name: RecordingSubscriber(user) for user in (holder, member, other, boss, far_boss)}
    await lite.hub.start()
    for subscriber in people.values():
        await lite.hub.subscribe(subscriber, await lite.hub.position())

    held = await lite.conversation("c-1", state="human", agent=holder)
    await lite.conversation("c-2")
    queued = await lite.conversation("c-3")
    await lite.escalate(queued)
    await lite.buyer_says(queued, "还在吗")
    await tell(lite, "end", group_id="vip")
    await eventually(lambda: people["other"].frames and people["boss"].types()[-1:] == ["notice"])

    def about(name: str) -> list[str]:
        return [frame["data"].get("conversation_id") for frame in people[name].frames]

    assert about("holder") == [str(held), str(queued)]
    assert about("member") == [str(queued)]
    assert about("other") == [None]
    assert len(about("boss")) == 5
    assert about("far") == [None]


async def test_a_watched_conversation_shows_itself(lite: DeskWorld) -> None:
    agent = await lite.person("lin", groups=["vip"])
    subscriber = RecordingSubscriber(agent)
    await lite.hub.start()
    conversation = await lite.conversation()
    subscriber.watching.add(conversation)
    await lite.hub.subscribe(subscriber, await lite.hub.position())

    await lite.buyer_says(conversation, "在吗")
    await eventually(lambda: subscriber.types() == ["message.created"])


async def test_an_event_of_another_process_arrives_without_a_hint(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    subscriber = RecordingSubscriber(agent)
    await lite.hub.start()
    await lite.hub.subscribe(subscriber, 0)
    event = notice_event(code="t", text="x", now_ms=0, agent_id=agent.id)
    await lite.database.write(lambda connection: append_events(connection, [event]))

    await lite.clock.run_until(lambda: subscriber.frames)


@pytest.mark.parametrize(
    ("resume_after", "is_resync"), [(None, False), (3, False), (2, False), (99, True), (0, True)]
)
async def test_what_is_too_old_or_from_the_future_asks_for_a_reload(
    lite: DeskWorld, resume_after: int | None, is_resync: bool
) -> None:
    agent = await lite.person("lin")
    for _ in range(4):
        await tell(lite, "x", agent_id=agent.id)
    await lite.database.write(
        lambda connection: (
            connection.execute(delete(console_events).where(console_events.c.seq <= 2)).rowcount
        )
    )

    resume = await lite.hub.check(resume_after)

    assert resume.is_resync is is_resync
    assert resume.seq == (4 if is_resync or resume_after is None else resume_after)


async def test_old_events_are_removed_but_never_the_last(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    for _ in range(3):
        await tell(lite, "x", agent_id=agent.id)
    lite.clock.advance(4 * 24 * 3600)
    await lite.hub.start()
    await eventually(lambda: _count(lite, 1))
    assert await lite.hub.position() == 3


async def _count(world: DeskWorld, number: int) -> bool:
    return len(await world.events()) == number
