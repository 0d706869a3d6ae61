"""Talk: what says nothing but ok, thanks or 'let me see', and what such messages get."""

from __future__ import annotations

import pytest

from app.domain.matching import Band
from app.domain.turns import DecisionKind
from app.replies.talk import Talk, is_bare_data, talk_of
from tests.unit.replies.world import World, entry, make_shop, match, nothing, texts_of

COURIER = entry("courier", "亲，发中通～", question="发什么快递？")
THANKS = entry("close_thanks", "不客气亲～", question="谢谢")


@pytest.mark.parametrize(
    "text",
    [
        "好的",
        "嗯嗯，知道了",
        "哦哦 这样啊",
        "行吧，那我再看看",
        "好嘞亲",
        "是的，没错",
        "哈哈哈哈",
        "稍等下",
        "没别的了",
        "不好意思，打扰了",
        "[微笑] 好的呢",
        "OK",
        "我等",
    ],
)
def test_words_that_keep_a_talk_going_want_nothing(text: str) -> None:
    assert talk_of(text) is Talk.ACKNOWLEDGES


@pytest.mark.parametrize("text", ["谢谢", "好的，辛苦啦", "没了，多谢您", "嗯 知道了 感谢感谢"])
def test_thanks_are_heard_among_them(text: str) -> None:
    assert talk_of(text) is Talk.THANKS


@pytest.mark.parametrize(
    "text",
    [
        "好的，什么时候发货",
        "可以吗",
        "可以吧",
        "好用",
        "好贵",
        "可以退货",
        "不行",
        "真麻烦",
        "麻烦退货",
        "没有",
        "是坏的",
        "哈喽老板",
        "您好",
        "我要看看发票",
        "对了，还有赠品",
        "1",
        "",
        "   ",
        "好的" * 40,
    ],
)
def test_what_may_want_something_is_no_mere_talk(text: str) -> None:
    assert talk_of(text) is None


@pytest.mark.parametrize(
    "text", ["[订单x]", "QH-20261112 88", "https://example.com/item?id=3", "13800000000"]
)
def test_data_without_a_word_is_bare(text: str) -> None:
    assert is_bare_data(text)


@pytest.mark.parametrize("text", ["", "  ", "订单 123456", "查一下"])
def test_a_word_makes_it_more_than_data(text: str) -> None:
    assert not is_bare_data(text)


def test_an_ok_gets_one_friendly_line_and_the_next_nothing() -> None:
    world = World(entries=[COURIER])
    assert texts_of(world.say("好的", nothing("好的"))) == "好的，有需要随时告诉我～"
    assert world.say("嗯嗯", nothing("嗯嗯")).kind is DecisionKind.SILENT


def test_after_another_answer_an_ok_is_returned_again() -> None:
    world = World(entries=[COURIER])
    world.say("好的", nothing("好的"))
    world.say("发什么快递", match("courier"))
    assert world.say("嗯嗯", nothing("嗯嗯")).kind is DecisionKind.ANSWER


def test_an_ok_while_our_question_is_open_waits_for_its_answer() -> None:
    world = World(entries=[COURIER, entry("postage", "满99元包邮", question="运费多少？")])
    world.say("快递运费", match(["courier", "postage"], Band.ASK))
    said = world.say("好的", nothing("好的"))
    assert said.kind is DecisionKind.SILENT
    assert said.memory.offered == ("courier", "postage")


def test_an_ok_while_a_colleague_is_coming_is_left_to_them() -> None:
    assert World(has_open_escalation=True).say("好的", nothing("好的")).kind is DecisionKind.SILENT


def test_thanks_that_nobody_matched_get_the_shops_own_words() -> None:
    assert texts_of(World(entries=[THANKS]).say("嗯嗯谢啦", nothing("嗯嗯谢啦"))) == "不客气亲～"
    assert texts_of(World(entries=[COURIER]).say("嗯嗯谢啦", nothing("嗯嗯谢啦"))) == "不客气，能帮到您就好。"


def test_no_welcome_stands_before_thanks_but_before_the_first_real_answer() -> None:
    world = World(entries=[COURIER, THANKS], shop=make_shop(welcome=None))
    assert "欢迎" not in texts_of(world.say("谢谢", match("close_thanks")))
    assert "欢迎" in texts_of(world.say("发什么快递", match("courier")))


@pytest.mark.parametrize("text", ["1" * 100, "12345678901", "。。。", "?", "a" * 300])
def test_no_first_message_is_met_with_silence(text: str) -> None:
    assert World(entries=[COURIER]).say(text).replies
