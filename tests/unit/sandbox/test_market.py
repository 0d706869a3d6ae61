"""The marketplace's conversation with a shop's server: webhooks out, replies in, and trouble on purpose."""

from __future__ import annotations

import pytest

from app.channels.http import OutcomeUnknownError
from app.core.errors import NotFoundError
from app.domain.messages import EventKind
from app.sandbox.chats import Troubles
from app.sandbox.sessions import MAX_SESSIONS
from tests.unit.sandbox.conftest import OUTDOOR, World, events_of


async def test_a_buyer_s_message_arrives_signed_with_its_order(world: World):
    order_id = world.market.orders(world.session, OUTDOOR, world.buyer)[0]["order_id"]
    message = world.say("我的快递到哪了", order_id=order_id)
    await world.clock.run_for(0)
    (request,) = world.recorder.requests
    assert request.url == f"http://127.0.0.1:8000/webhooks/generic/{OUTDOOR}"
    (event,) = events_of(request, world.accounts[OUTDOOR], world.clock.now_ms())
    assert (event.kind, event.message_id, event.order_id) == (EventKind.MESSAGE, message.id, order_id)
    assert event.buyer is not None
    assert (event.buyer.nickname, event.buyer.tier) == ("小鹿爱露营", "gold")
    assert message.state == "pushed"


async def test_an_order_of_somebody_else_can_t_be_attached(world: World):
    with pytest.raises(NotFoundError):
        world.say("我的快递到哪了", order_id="2611220000")


async def test_what_is_refused_for_now_is_posted_again_under_the_same_ids(world: World):
    world.recorder.answers = [503, OutcomeUnknownError("cut")]
    message = world.say("在吗")
    await world.clock.run_for(5)
    assert len(world.recorder.requests) == 3
    assert len({request.headers["webhook-id"] for request in world.recorder.requests}) == 1
    assert len({request.body for request in world.recorder.requests}) == 1
    assert [push.status for push in message.pushes] == [503, None, 200]
    assert message.state == "pushed"


async def test_a_server_that_asks_for_patience_gets_it(world: World):
    world.recorder.answers, world.recorder.retry_after = [503], "7"
    world.say("在吗")
    await world.clock.run_for(6.9)
    assert len(world.recorder.requests) == 1
    await world.clock.run_for(0.2)
    assert len(world.recorder.requests) == 2


async def test_what_is_refused_for_good_is_not_posted_again(world: World):
    world.recorder.answers = [401]
    message = world.say("在吗")
    await world.clock.run_for(60)
    assert len(world.recorder.requests) == 1
    assert message.state == "failed"


async def test_with_the_first_trouble_every_message_is_posted_twice(world: World):
    world.market.set_troubles(world.session, Troubles(twice=True))
    world.say("在吗")
    await world.clock.run_for(1)
    first, second = world.recorder.requests
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])


async def test_with_the_second_trouble_two_messages_change_places(world: World):
    world.market.set_troubles(world.session, Troubles(swapped=True))
    first = world.say("在吗")
    await world.clock.run_for(1)
    assert (first.state, world.recorder.requests) == ("held", [])
    world.say("什么时候发货")
    await world.clock.run_for(0.5)
    assert [data["content"]["text"] for data in world.recorder.bodies()] == ["什么时候发货", "在吗"]


async def test_a_message_that_nothing_overtakes_is_not_kept_for_ever(world: World):
    world.market.set_troubles(world.session, Troubles(swapped=True))
    world.say("在吗")
    await world.clock.run_for(3.1)
    assert len(world.recorder.requests) == 1


async def test_switching_the_trouble_off_lets_the_message_go(world: World):
    world.market.set_troubles(world.session, Troubles(swapped=True))
    world.say("在吗")
    await world.clock.run_for(0.5)
    world.market.set_troubles(world.session, Troubles())
    await world.clock.run_for(0)
    assert len(world.recorder.requests) == 1


async def test_a_reply_is_shown_with_its_delay_and_echoed_under_our_id(world: World):
    message = world.say("在吗")
    await world.clock.run_for(1.5)
    answer = await world.reply("亲，在的", answers=[message.id], message_id="9001")
    await world.clock.run_for(0)
    assert answer.status == 200
    assert world.shown() == [("buyer", "在吗"), ("bot", "亲，在的")]
    assert world.session.chats[OUTDOOR, world.buyer.key].messages[-1].after_ms == 1500
    (echo,) = world.recorder.bodies("message.echo")
    assert (echo["message_id"], echo["content"]["text"]) == ("9001", "亲，在的")


async def test_a_reply_that_comes_twice_is_shown_once(world: World):
    message = world.say("在吗")
    for _ in range(2):
        assert (await world.reply("亲，在的", answers=[message.id])).status == 200
    await world.clock.run_for(0)
    assert world.shown().count(("bot", "亲，在的")) == 1
    assert len(world.recorder.bodies("message.echo")) == 1


async def test_a_forged_reply_is_refused(world: World):
    message = world.say("在吗")
    headers = {
        "webhook-id": "m",
        "webhook-timestamp": str(world.clock.now_ms() // 1000),
        "webhook-signature": "v1,x",
    }
    answer = await world.market.take_reply(OUTDOOR, headers, b"{}")
    assert (answer.status, answer.document["code"]) == (401, "signature_invalid")
    assert world.shown() == [("buyer", message.content["text"])]


async def test_a_signed_reply_that_says_nothing_is_refused(world: World):
    message = world.say("在吗")
    assert (await world.reply("", answers=[message.id], body=b'{"type": "message.send"}')).status == 400


async def test_with_the_third_trouble_a_reply_is_taken_at_the_second_attempt(world: World):
    world.market.set_troubles(world.session, Troubles(refuse_first=True))
    message = world.say("在吗")
    first = await world.reply("亲，在的", answers=[message.id])
    assert (first.status, first.headers) == (503, {"retry-after": "1"})
    assert world.shown() == [("buyer", "在吗")]
    assert (await world.reply("亲，在的", answers=[message.id])).status == 200
    assert world.shown()[-1] == ("bot", "亲，在的")


async def test_a_reply_to_a_chat_that_no_page_plays_is_taken_silently(world: World):
    message = world.say("在吗")
    body = b'{"type":"message.send","data":{"message_id":"1","conversation_id":"sim-1","content":{"type":"text"}}}'
    assert (await world.reply("", answers=[message.id], body=body)).status == 200
    await world.clock.run_for(0)
    assert world.recorder.bodies("message.echo") == []


async def test_saying_the_same_line_again_says_it_once(world: World):
    first = world.say("在吗", client_id="a")
    assert world.say("在吗", client_id="a") is first
    await world.clock.run_for(0)
    assert len(world.recorder.requests) == 1


async def test_beginning_anew_forgets_everything_and_ends_the_old_page_s_stream(world: World):
    world.say("在吗")
    before = world.session
    after = world.market.sessions.begin(instead_of=before.id)
    assert after.chats == {}
    assert before.events.is_closed
    with pytest.raises(NotFoundError):
        world.market.sessions.get(before.id)


async def test_the_session_unused_for_longest_makes_room(world: World):
    for _ in range(MAX_SESSIONS - 1):
        world.market.sessions.begin()
    world.market.sessions.get(world.session.id)
    world.market.sessions.begin()
    assert world.market.sessions.get(world.session.id) is world.session
