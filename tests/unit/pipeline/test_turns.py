"""What a turn makes of an event: sessions, owners, modes, and what platforms report beside messages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.storage.tables import (
    buyers,
    conversations,
    decisions,
    escalations,
    inbox,
    messages,
    outbox,
    silent_orders,
)
from tests.installation import install, on_installation
from tests.marketplace import Marketplace, event_body, order
from tests.running import Callback, Running
from tests.waiting import eventually

QUESTION = "什么时候发货"
THREAT = "我要投诉你们,打12315"


@pytest.fixture
def callback() -> Callback:
    """The marketplace's end."""
    return Callback()


@pytest.fixture
async def running(database_url: str, tmp_path: Path, callback: Callback) -> AsyncIterator[Running]:
    """The program with one account, on both databases."""
    await install(database_url, tmp_path, Marketplace())
    async with Running(database_url, callback) as running:
        yield running


async def ask(running: Running, text: str, message_id: str, **fields: Any) -> None:
    """A buyer writes, and everything that follows has happened."""
    assert await running.say(text, message_id=message_id, conversation_id="c-1", **fields) == 200
    await running.settle()


async def report(
    running: Running, kind: str, data: Mapping[str, Any], webhook_id: str = "wh-event"
) -> Mapping[str, Any]:
    """The platform reports something; return its inbox row once it is worked off."""
    assert await running.post(event_body(kind, data), webhook_id=webhook_id) == 200
    await running.settle()
    (row,) = await running.rows(inbox, inbox.c.dedupe_key == f"w:{webhook_id}")
    return row


async def conversation(running: Running) -> Mapping[str, Any]:
    """The one conversation there is."""
    (row,) = await running.rows(conversations)
    return row


async def test_a_first_message_makes_buyer_conversation_decision_and_reply(
    running: Running, callback: Callback
) -> None:
    await ask(running, QUESTION, "m-1", buyer={"id": "b-1", "nickname": "小王", "tier": "gold"})
    row = await conversation(running)
    assert (row["state"], row["buyer_external_id"], row["buyer_nickname"], row["last_seq"]) == (
        "bot",
        "b-1",
        "小王",
        2,
    )
    (buyer,) = await running.rows(buyers)
    assert (buyer["external_id"], buyer["tier"]) == ("b-1", "gold")
    asked, answered = await running.rows(messages)
    assert (asked["direction"], asked["external_id"], asked["status"]) == ("in", "m-1", "received")
    assert (answered["direction"], answered["author"], answered["status"]) == ("out", "bot", "sent")
    assert answered["in_reply_to"] == asked["id"]
    (decision,) = await running.rows(decisions)
    assert (decision["kind"], decision["entry_id"], decision["knowledge_version"]) == (
        "answer",
        "ship_time",
        1,
    )
    assert asked["decision_id"] == answered["decision_id"] == decision["id"]
    (left,) = await running.rows(outbox)
    assert (left["state"], left["message_id"]) == ("sent", answered["id"])
    assert callback.sent[0].key == f"msg_{left['id']}"


async def test_a_buyers_new_name_is_taken_over(running: Running) -> None:
    await ask(running, QUESTION, "m-1", buyer={"id": "b-1", "nickname": "小王"})
    await ask(running, "可以开发票吗", "m-2", buyer={"id": "b-1", "nickname": "老王"})
    assert (await conversation(running))["buyer_nickname"] == "老王"
    assert [row["nickname"] for row in await running.rows(buyers)] == ["老王"]


async def test_after_half_an_hour_a_new_session_begins(running: Running) -> None:
    await ask(running, QUESTION, "m-1")
    running.clock.leap(29 * 60)
    await ask(running, "可以开发票吗", "m-2")
    running.clock.leap(31 * 60)
    await ask(running, "这个是什么材质的", "m-3")
    sessions = {
        row["external_id"]: row["session"]
        for row in await running.rows(messages, messages.c.direction == "in")
    }
    assert sessions == {"m-1": 1, "m-2": 1, "m-3": 2}


async def test_a_closed_conversation_goes_back_to_the_bot_with_the_next_message(
    running: Running, callback: Callback
) -> None:
    await ask(running, THREAT, "m-1")
    row = await report(running, "conversation.closed", {"conversation_id": "c-1"})
    assert row["state"] == "done"
    assert (await conversation(running))["state"] == "closed"
    assert {one["state"] for one in await running.rows(escalations)} <= {"withdrawn", "closed"}
    await ask(running, QUESTION, "m-2")
    after = await conversation(running)
    assert (after["state"], json.loads(after["memory"])["session"]) == ("bot", 2)
    assert callback.sent[-1].answers == ("m-2",)


async def test_while_a_human_has_it_the_bot_is_silent_and_messages_count_as_unread(
    running: Running, database_url: str, callback: Callback
) -> None:
    await ask(running, QUESTION, "m-1")
    lin = await on_installation(
        database_url, lambda one: one.add_agent("lin", groups=("presale", "aftersale", "supervisor"))
    )
    await running.conversations.claim(lin, (await conversation(running))["id"])
    await ask(running, "可以开发票吗", "m-2")
    await ask(running, "这个是什么材质的", "m-3")
    row = await conversation(running)
    assert (row["state"], row["agent_id"], row["unread"]) == ("human", lin.id, 2)
    assert [one.answers for one in callback.sent] == [("m-1",)]


async def test_an_escalation_waits_since_the_message_that_caused_it(running: Running) -> None:
    await ask(running, THREAT, "m-1")
    (message,) = await running.rows(messages, messages.c.external_id == "m-1")
    row = await conversation(running)
    assert (row["state"], row["waiting_since_ms"]) == ("queued", message["created_at_ms"])
    (escalation,) = await running.rows(escalations)
    assert escalation["group_id"] == "supervisor"
    assert escalation["state"] == "open"


@pytest.mark.parametrize("mode", ["supervised", "shadow", "off"])
async def test_in_other_modes_than_auto_nothing_leaves_by_itself(
    running: Running, database_url: str, callback: Callback, mode: str
) -> None:
    await on_installation(database_url, lambda one: one.shops.set_shop("shop", {"mode": mode}))
    await eventually(lambda: running.application.directory.shop("shop").mode.value == mode)
    await ask(running, QUESTION, "m-1")
    assert callback.sent == []
    assert await running.rows(outbox) == []
    (row,) = await running.rows(inbox)
    assert row["state"] == "done"
    assert len(await running.rows(decisions)) == 1


async def test_a_bad_review_calls_a_human_and_a_good_one_does_not(running: Running) -> None:
    await ask(running, QUESTION, "m-1")
    review = {
        "buyer": {"id": "buyer of c-1"},
        "order_id": "O-9",
        "text": "一般",
        "created_at": "2026-11-21T08:00:00Z",
    }
    good = await report(running, "review.created", {**review, "rating": 5}, "wh-good")
    assert (good["state"], (await conversation(running))["state"]) == ("done", "bot")
    bad = await report(running, "review.created", {**review, "rating": 1}, "wh-bad")
    assert (bad["state"], (await conversation(running))["state"]) == ("done", "queued")
    (escalation,) = await running.rows(escalations)
    assert escalation["reason"] == "negative_review"


async def test_an_order_of_a_buyer_who_never_wrote_is_kept_as_a_silent_order(running: Running) -> None:
    data = {"buyer": {"id": "b-7"}, "order": order("O-7", buyer_id="b-7")}
    row = await report(running, "order.updated", data)
    assert row["state"] == "done"
    (kept,) = await running.rows(silent_orders)
    assert (kept["order_id"], kept["buyer_external_id"]) == ("O-7", "b-7")
    assert "13800001234" not in kept["document"]
    assert await running.rows(conversations) == []


async def test_an_echo_without_a_conversation_is_ignored_with_its_reason(running: Running) -> None:
    echo = {"message_id": "e-1", "conversation_id": "c-9", "content": {"type": "text", "text": "您好"}}
    row = await report(running, "message.echo", echo)
    assert (row["state"], row["reason"]) == ("ignored", "no_conversation")


async def test_an_echo_confirms_our_reply_once_and_somebody_elses_takes_the_conversation(
    running: Running, callback: Callback
) -> None:
    await ask(running, QUESTION, "m-1")
    (reply,) = callback.sent
    echo = {"message_id": "e-1", "conversation_id": "c-1", "content": {"type": "text", "text": reply.text}}
    await report(running, "message.echo", echo, "wh-1")
    (ours,) = await running.rows(messages, messages.c.direction == "out")
    assert (ours["status"], ours["external_id"]) == ("confirmed", "e-1")
    assert (await conversation(running))["state"] == "bot"
    await report(running, "message.echo", {**echo, "message_id": "e-2"}, "wh-2")
    row = await conversation(running)
    assert (row["state"], row["agent_id"]) == ("human", None)
