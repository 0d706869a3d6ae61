"""Agents' replies: once, in the transaction that stores them, and never against a newer word."""

from __future__ import annotations

import pytest

from app.core.errors import ConflictError, InvalidError, NotFoundError
from app.delivery.outbox import enqueue_outbound
from app.desk.messages import add_message
from app.desk.scope import read_conversation
from app.desk.work import Work
from app.domain.messages import Author, Content, ContentType, Direction
from app.storage.tables import messages
from tests.desk_world import DeskWorld

HELLO = Content(text="您好，这就为您查。")


async def test_a_reply_is_stored_enqueued_and_announced_together(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation(state="human", agent=agent)

    sent = await world.sending.send(agent, conversation, HELLO, client_message_id="x1")

    (row,) = await world.outbox_rows()
    assert (row["message_id"], row["author"], row["supersedable"]) == (int(sent["id"]), "agent", False)
    (item,) = world.enqueued
    assert item.message.answers == (item.message.in_reply_to,)
    assert item.message.in_reply_to is not None
    after = await world.conversation_row(conversation)
    assert (after["unread"], after["waiting_since_ms"], after["last_seq"]) == (0, None, 2)
    assert (await world.events("message.created"))[-1]["data"] == sent
    assert sent["status"] == "queued"


async def test_the_same_client_message_id_sends_once_and_answers_the_same(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation(state="human", agent=agent)

    first = await world.sending.send(agent, conversation, HELLO, client_message_id="x1")
    await world.buyer_says(conversation, "在吗")
    again = await world.sending.send(
        agent, conversation, Content(text="别的"), client_message_id="x1", last_seen_message_id=1
    )

    assert again["id"] == first["id"]
    assert len(await world.outbox_rows()) == 1


async def test_a_reply_is_stale_when_the_buyer_wrote_meanwhile_unless_confirmed(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation(state="human", agent=agent)
    seen = await lite.buyer_says(conversation, "在吗")
    await lite.buyer_says(conversation, "算了")

    with pytest.raises(ConflictError) as refused:
        await lite.sending.send(agent, conversation, HELLO, client_message_id="x1", last_seen_message_id=seen)
    assert refused.value.code == "stale"
    assert await lite.outbox_rows() == []

    await lite.sending.send(
        agent, conversation, HELLO, client_message_id="x1", last_seen_message_id=seen, confirm=True
    )
    assert len(await lite.outbox_rows()) == 1


async def test_ones_own_replies_are_never_newer_than_what_one_saw(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation(state="human", agent=agent)
    seen = await lite.buyer_says(conversation, "在吗")

    for number in range(3):
        await lite.sending.send(
            agent, conversation, HELLO, client_message_id=f"x{number}", last_seen_message_id=seen
        )
    assert len(await lite.outbox_rows()) == 3


async def test_the_guard_objects_until_the_agent_confirms(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation(state="human", agent=agent)
    lite.objections.append("保证")
    risky = Content(text="保证明天到")

    with pytest.raises(InvalidError) as refused:
        await lite.sending.send(agent, conversation, risky, client_message_id="x1")
    assert refused.value.code == "guard"
    assert [problem.message for problem in refused.value.errors] == ["保证"]

    await lite.sending.send(agent, conversation, risky, client_message_id="x1", confirm=True)
    assert len(await lite.outbox_rows()) == 1


async def test_nobody_writes_into_a_colleagues_conversation(lite: DeskWorld) -> None:
    holder, other = await lite.person("lin"), await lite.person("he")
    conversation = await lite.conversation(state="human", agent=holder, group="presale")

    with pytest.raises(ConflictError) as refused:
        await lite.sending.send(other, conversation, HELLO, client_message_id="x1")
    assert (refused.value.code, refused.value.by) == ("held_by", "lin")


async def test_a_conversation_out_of_scope_does_not_exist(lite: DeskWorld) -> None:
    stranger = await lite.person("x", shops=["s2"])
    conversation = await lite.conversation()

    with pytest.raises(NotFoundError):
        await lite.sending.send(stranger, conversation, HELLO, client_message_id="x1")
    with pytest.raises(NotFoundError):
        await lite.sending.note(stranger, conversation, "hm")


async def test_the_bot_has_to_be_relieved_before_an_agent_writes(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation()

    with pytest.raises(ConflictError) as refused:
        await lite.sending.send(agent, conversation, HELLO, client_message_id="x1")
    assert refused.value.code == "not_held"


async def test_an_agent_may_write_first_in_a_closed_conversation_and_holds_it_then(lite: DeskWorld) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation(state="closed")

    await lite.sending.send(agent, conversation, HELLO, client_message_id="x1")

    row = await lite.conversation_row(conversation)
    assert (row["state"], row["agent_id"], row["version"]) == ("human", agent.id, 2)


async def test_a_note_never_reaches_the_outbox(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation(state="human", agent=agent)

    note = await world.sending.note(agent, conversation, "买家脾气急")

    assert note["direction"] == "note"
    assert await world.outbox_rows() == []
    assert world.enqueued == []
    assert (await world.conversation_row(conversation))["last_message"].find("脾气") == -1


@pytest.mark.parametrize(
    "content",
    [
        Content(text="   "),
        Content(text="长" * 4001),
        Content(type=ContentType.IMAGE),
        Content(type=ContentType.PRODUCT_CARD),
        Content(type=ContentType.VOICE, url="https://example.com/a.amr"),
    ],
    ids=["blank", "too long", "image without address", "card without product", "voice"],
)
async def test_what_cannot_be_sent_is_refused_with_its_field(lite: DeskWorld, content: Content) -> None:
    agent = await lite.person("lin")
    conversation = await lite.conversation(state="human", agent=agent)

    with pytest.raises(InvalidError) as refused:
        await lite.sending.send(agent, conversation, content, client_message_id="x1")
    assert refused.value.errors[0].field.startswith("content.")


async def test_a_human_who_takes_over_stops_what_the_bot_still_had_to_say(world: DeskWorld) -> None:
    agent = await world.person("lin")
    conversation = await world.conversation()

    def bot_answers(work: Work) -> int:
        row = read_conversation(work.connection, conversation)
        row, message = add_message(
            work, row, direction=Direction.OUT, author=Author.BOT, content=Content(text="亲"), status="queued"
        )
        enqueue_outbound(
            work.connection, ids=work.ids, conversation=row, message_id=message["id"], author=Author.BOT,
            content=Content(text="亲"), now_ms=work.now_ms, in_reply_to=None, answers=None, supersedable=True,
        )  # fmt: skip
        return message["id"]

    message = await world.desk.change(bot_answers)
    await world.conversations.claim(agent, conversation)

    (row,) = await world.outbox_rows()
    assert (row["state"], row["error"]) == ("dropped", "superseded")
    assert (await world.row(messages, message))["status"] == "dropped"
    (told,) = await world.events("message.delivery")
    assert told["data"]["status"] == "failed"
