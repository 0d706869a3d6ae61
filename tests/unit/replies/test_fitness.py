"""Fitness: an entry that looks alike and can't be meant is neither answered nor offered."""

from __future__ import annotations

import pytest

from app.domain.knowledge import AnswerMode
from app.domain.matching import Band, Candidate, Match
from app.domain.turns import DecisionKind
from app.replies.fitness import fits
from tests.unit.replies.world import World, entry, match, order, texts_of, view

URGE = entry("ship_urge", "亲，我帮您催发货。", question="怎么还没发货？")
PROGRESS = entry("as_progress", "亲，我帮您查进度。", question="处理到哪了？")
CANCEL = entry(
    "chg_cancel", "好的，取消已登记。", question="取消订单", mode=AnswerMode.ESCALATE, group="presale"
)
CONFIRMED = entry("addr_yes", "好的，按这个地址发货。", question="地址正确")


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("ship_urge", "退款能不能快一点"),
        ("ship_urge", "发票麻烦快点开"),
        ("log_track", "我的退货走到哪里了"),
        ("ship_tracking_no", "单号是SF1234567890"),
        ("pay_method", "微信付的"),
        ("pay_method", "钱是退到信用卡吗"),
        ("chg_cancel", "为什么把我的订单取消"),
        ("chg_cancel", "退货申请帮我取消"),
        ("shop_hours", "快递站点几点关门"),
        ("log_signed_missing", "我已经签收了"),
        ("close_no_more", "这款没有了吗"),
        ("close_no_more", "没有了？"),
        ("prod_usage", "师傅什么时候上门安装"),
        ("inv_status", "发票"),
    ],
)
def test_a_neighbour_that_means_something_else_does_not_fit(topic: str, text: str) -> None:
    assert not fits(topic, text, "dialogue")


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("ship_urge", "怎么还不发货"),
        ("log_track", "快递到哪了"),
        ("ship_tracking_no", "快递单号多少"),
        ("pay_method", "可以用微信付吗"),
        ("chg_cancel", "我要取消订单"),
        ("shop_hours", "你们几点下班"),
        ("log_signed_missing", "显示签收了我没收到"),
        ("close_no_more", "没有了"),
        ("prod_usage", "安装步骤发我"),
        ("inv_status", "发票怎么还没开"),
        ("prod_unheard_of", "随便什么"),
        ("pay_method", "paypal"),
    ],
)
def test_what_the_topic_is_about_fits(topic: str, text: str) -> None:
    assert fits(topic, text, "dialogue")


def test_an_address_is_confirmed_only_where_one_was_asked_about() -> None:
    assert fits("addr_yes", "对，就是这个", "address_confirm")
    assert fits("addr_yes", "地址没错", "dialogue")
    assert not fits("addr_yes", "对，就是这个", "dialogue")
    said = World(entries=[CONFIRMED]).say("对，就是这个", match("addr_yes"))
    assert "地址" not in texts_of(said)


def test_what_does_not_fit_is_not_answered_however_sure_the_match() -> None:
    said = World(entries=[URGE]).say("退款能不能快一点", match("ship_urge"))
    assert said.kind is DecisionKind.ASK
    assert "催发货" not in texts_of(said)
    assert "售后" in texts_of(said)


def test_the_next_likely_entry_is_offered_instead() -> None:
    text = "退款处理能不能快一点"
    ranked = (Candidate(entry_id="ship_urge", score=0.95), Candidate(entry_id="as_progress", score=0.7))
    said = World(entries=[URGE, PROGRESS]).say(
        text, Match(text=text, ranked=ranked, confidence=0.95, band=Band.ANSWER)
    )
    assert said.kind is DecisionKind.ASK
    assert said.memory.offered == ("as_progress",)


def test_a_phrasing_of_the_shops_own_is_trusted_word_for_word() -> None:
    text = "退款快一点"
    ranked = (Candidate(entry_id="ship_urge", score=0.99, variant=text),)
    said = World(entries=[URGE]).say(text, Match(text=text, ranked=ranked, confidence=0.99, band=Band.ANSWER))
    assert said.kind is DecisionKind.ANSWER


def test_a_likely_order_matter_goes_to_a_human_without_asking_back_and_without_a_promise() -> None:
    world = World(entries=[CANCEL], orders=view(order(status="paid")))
    text = "单子撤了吧"
    ranked = (Candidate(entry_id="chg_cancel", score=0.8),)
    said = world.say(text, Match(text=text, ranked=ranked, confidence=0.8, band=Band.ASK))
    assert said.kind is DecisionKind.ESCALATE
    assert said.escalation is not None
    assert said.escalation.rule == "E7"
    assert said.escalation.group == "presale"
    assert said.case is None
    assert "取消" not in texts_of(said)


def test_a_less_likely_one_is_asked_about_first() -> None:
    said = World(entries=[CANCEL]).say("单子撤了吧", match("chg_cancel", Band.ASK))
    assert said.kind is DecisionKind.ASK
    assert "取消订单" in texts_of(said)


def test_far_fetched_options_are_not_listed() -> None:
    text = "能快点弄好吗"
    ranked = (Candidate(entry_id="as_progress", score=0.8), Candidate(entry_id="ship_urge", score=0.2))
    said = World(entries=[URGE, PROGRESS]).say(
        text, Match(text=text, ranked=ranked, confidence=0.8, band=Band.ASK)
    )
    assert said.memory.offered == ("as_progress",)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("发票那边说的不一样", "发票"),
        ("说好的退货又变了", "售后"),
        ("那个券一直那样", "优惠"),
        ("快递说的不一样", "物流"),
        ("订单怪怪的", "订单"),
        ("唔知点讲", "没有完全明白"),
        ("[姓名x] [身份证号x]", "收到您发来的信息"),
    ],
)
def test_a_clarifying_question_shows_what_was_understood(text: str, word: str) -> None:
    said = World(entries=[URGE]).say(text)
    assert said.kind is DecisionKind.ASK
    assert word in texts_of(said)


def test_masked_values_are_not_taken_for_faces() -> None:
    assert "表情" not in texts_of(World(entries=[URGE]).say("[身份证号x]"))
    assert "表情" in texts_of(World(entries=[URGE]).say("[微笑]"))
