"""Before a bot's reply leaves: does a human have the conversation, whichever process they took it by?"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event, insert, update

from app.core.errors import UnavailableError
from app.core.metrics import Metrics
from app.delivery.outbox import OutboxItem, new_item
from app.desk.sending import SendService
from app.domain.conversations import ConversationState
from app.domain.messages import Author, Content
from app.pipeline.lanes import Lanes
from app.pipeline.outcomes import DeliveryOutcomes
from app.pipeline.records import record_from_row
from app.storage.database import Database
from app.storage.tables import conversations, outbox
from tests.desk_world import DeskWorld


def outcomes_of(world: DeskWorld, *, is_shared: bool) -> tuple[DeliveryOutcomes, Lanes]:
    lanes = Lanes(worker=None, clock=world.clock, metrics=world.metrics, on_fenced=lambda _partition: None)  # pyright: ignore[reportArgumentType]
    hooks = DeliveryOutcomes(
        desk=world.desk,
        lanes=lanes,
        policy_of=world.policy_of,
        on_events=lambda: None,
        is_shared=lambda: is_shared,
    )
    return hooks, lanes


async def bot_reply(world: DeskWorld, conversation_id: int) -> OutboxItem:
    """Put a reply of the bot's into the outbox, as a turn does."""
    row = await world.conversation_row(conversation_id)
    item = new_item(
        ids=world.ids,
        conversation_id=conversation_id,
        conversation_external_id=row["external_id"],
        account_id=row["account_id"],
        partition=row["partition"],
        message_id=world.ids.next(),
        author=Author.BOT,
        content=Content(text="您好"),
        now_ms=world.clock.now_ms(),
        supersedable=True,
        in_reply_to=None,
        answers=None,
    )
    await world.database.write(lambda connection: connection.execute(insert(outbox), item.row()).rowcount)
    return item


async def at_hand(world: DeskWorld, lanes: Lanes, conversation_id: int) -> None:
    """Have a conversation as it is now at hand, as after a turn."""
    row = await world.conversation_row(conversation_id)
    record: Any = record_from_row(row)
    lanes._remember((row["account_id"], row["external_id"]), record)


async def test_an_agent_who_took_the_conversation_at_another_process_a_moment_ago_wins(
    world: DeskWorld,
) -> None:
    hooks, lanes = outcomes_of(world, is_shared=True)
    agent = await world.person("lin")
    conversation = await world.conversation()
    item = await bot_reply(world, conversation)
    await at_hand(world, lanes, conversation)
    assert not await hooks.is_superseded(item)

    await world.conversations.claim(agent, conversation)

    assert lanes.record_of(conversation) is not None
    assert await hooks.is_superseded(item)


async def test_a_reply_dropped_for_an_agent_who_gave_back_meanwhile_stays_dropped(lite: DeskWorld) -> None:
    hooks, lanes = outcomes_of(lite, is_shared=True)
    agent = await lite.person("lin")
    conversation = await lite.conversation()
    item = await bot_reply(lite, conversation)
    await at_hand(lite, lanes, conversation)
    await lite.conversations.claim(agent, conversation)
    await lite.conversations.release(agent, conversation)

    assert await hooks.is_superseded(item)


async def test_an_agent_who_takes_and_gives_back_during_the_look_wins(lite: DeskWorld) -> None:
    hooks, lanes = outcomes_of(lite, is_shared=True)
    agent = await lite.person("lin")
    conversation = await lite.conversation()
    item = await bot_reply(lite, conversation)
    await at_hand(lite, lanes, conversation)
    look: Any = hooks._look
    read, may_tell = look._database.read, asyncio.Event()
    has_read = asyncio.Event()

    async def read_and_tell_late(function: Any) -> Any:
        found = await read(function)
        has_read.set()
        await may_tell.wait()
        return found

    look._database = SimpleNamespace(read=read_and_tell_late)
    asked = asyncio.ensure_future(hooks.is_superseded(item))
    await has_read.wait()
    await lite.conversations.claim(agent, conversation)
    await lite.conversations.release(agent, conversation)
    hooks.conversation_changed(conversation)
    may_tell.set()

    assert await asked


async def test_alone_a_fresh_reply_needs_no_look_into_the_database(lite: DeskWorld) -> None:
    hooks, lanes = outcomes_of(lite, is_shared=False)
    conversation = await lite.conversation()
    item = await bot_reply(lite, conversation)
    await at_hand(lite, lanes, conversation)
    looks = count_reads(lite.database)

    assert not await hooks.is_superseded(item)

    assert looks == []


async def test_replies_that_leave_together_are_looked_up_together(lite: DeskWorld) -> None:
    hooks, _ = outcomes_of(lite, is_shared=True)
    items = [await bot_reply(lite, await lite.conversation(f"c-{number}")) for number in range(20)]
    await lite.database.write(
        lambda connection: (
            connection.execute(
                update(conversations)
                .where(conversations.c.id == items[7].conversation_id)
                .values(state=ConversationState.HUMAN.value)
            ).rowcount
        )
    )
    looks = count_reads(lite.database)

    said = await asyncio.gather(*(hooks.is_superseded(item) for item in items))

    assert [number for number, one in enumerate(said) if one] == [7]
    assert len(looks) == 1


async def test_without_a_database_whoever_asks_is_told_and_may_ask_again(
    lite: DeskWorld, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hooks, _ = outcomes_of(lite, is_shared=True)
    item = await bot_reply(lite, await lite.conversation())
    look: Any = hooks._look
    whole = look._database
    look._database = Database(
        f"sqlite:///{tmp_path_factory.mktemp('gone') / 'none' / 'x.db'}", metrics=Metrics()
    )
    with pytest.raises(UnavailableError):
        await hooks.is_superseded(item)

    look._database = whole

    assert not await hooks.is_superseded(item)


async def test_what_became_of_a_message_reaches_whoever_holds_the_conversation_when_it_is_read(
    lite: DeskWorld,
) -> None:
    hooks, lanes = outcomes_of(lite, is_shared=True)
    first, second = await lite.person("lin"), await lite.person("he")
    conversation = await lite.conversation(state="human", agent=first)
    await at_hand(lite, lanes, conversation)
    sending = SendService(lite.desk, check_text=lambda _text: ())
    await sending.send(first, conversation, Content(text="您好"), client_message_id="1")
    await lite.conversations.transfer(first, conversation, agent_id=second.id, note="")

    told = hooks.delivery_event(lite.enqueued[0], "sent", None, lite.clock.now_ms())

    assert told is not None
    assert (told["conversation_id"], told["agent_id"], told["group_id"]) == (conversation, None, None)


def count_reads(database: Database) -> list[str]:
    """Return a list that grows with every statement of the readers' connections."""
    said: list[str] = []
    engine: Any = database
    event.listen(engine._engine.sync_engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    return said
