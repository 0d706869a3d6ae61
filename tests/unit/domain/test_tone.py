"""The tone rules as a linter: what it must find, and what it must leave alone."""

from __future__ import annotations

import pytest

from app.domain.tone import MAX_LENGTH, ToneKind, lint


def codes(text: str, kind: ToneKind = "answer") -> list[str]:
    return [finding.code for finding in lint(text, kind=kind)]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("informal_you", "你好，请问需要什么"),
        ("informal_you", "谢谢你们的支持"),
        ("look_yourself", "具体请看详情页"),
        ("look_yourself", "参数以商品详情页为准"),
        ("look_yourself", "您可以自己看一下尺码"),
        ("look_yourself", "麻烦看下宝贝描述"),
        ("look_yourself", "请您自行查询物流"),
        ("blame_system", "抱歉，系统错误，请稍后"),
        ("blame_system", "这是技术问题"),
        ("blame_system", "系统故障导致没有发货"),
        ("ellipsis", "好的……"),
        ("ellipsis", "稍等..."),
        ("ellipsis", "稍等。。"),
        ("superlative", "这是全店最好的一款"),
        ("superlative", "已经是最低价了"),
        ("superlative", "销量第一的帐篷"),
        ("superlative", "行业第一品牌"),
        ("superlative", "绝对正品"),
        ("guarantee", "保证到货"),
        ("guarantee", "明天一定能到"),
        ("guarantee", "肯定没问题"),
        ("guarantee", "我们保证三天送达"),
        ("guarantee", "一定会给您退款"),
        ("guarantee", "肯定不会起球"),
        ("guarantee", "没法保证到货日期"),
        ("review_reward", "五星好评返现5元"),
        ("review_reward", "写好评有红包"),
        ("review_change", "麻烦您修改一下评价"),
        ("review_change", "可以帮忙删掉差评吗"),
        ("review_change", "请把差评改成好评"),
        ("review_solicit", "记得给我们五星好评"),
        ("private_contact", "加微信详聊"),
        ("private_contact", "您加我微信吧"),
        ("private_contact", "支付宝转账给我们也行"),
        ("refund_reason", "退款原因请选择不喜欢"),
        ("personal_data", "收件人电话13800138000"),
        ("internal_name", "已命中词条as_return_quality"),
        ("internal_name", "转给aftersale处理"),
        ("internal_name", "匹配度0.92"),
    ],
)
def test_a_breach_of_the_rules_is_found(code: str, text: str) -> None:
    assert code in codes(text)


@pytest.mark.parametrize(
    "text",
    [
        "亲，您的订单最晚11月13日 16:00前发出",
        "我们会第一时间联系您，最近一条物流是昨天的，最新进展马上告诉您",
        "第一次下单的话，第一步是选好颜色和尺码",
        "1. 第一，选颜色；2. 付款",
        "第一泡10秒出汤",
        "路上的时间由快递决定，没法承诺具体哪天送达",
        "到货日期我们不能保证",
        "请您一定留意短信",
        "不一定有现货，我帮您查",
        "亲，材质是100%羊毛",
        "评价没有返现或其他回报，请您谅解",
        "我们欢迎您写下真实的感受",
        "亲，可以在备注里写好放门卫",
        "支持的付款方式有：支付宝、微信支付",
        "您看重哪方面，我再细说～",
        "哪一步看不清楚，截图发来就好",
        "I am passing you to a supervisor at once.",
        "好的亲😊",
        "",
    ],
)
def test_ordinary_wording_passes(text: str) -> None:
    assert lint(text) == ()


def test_liquid_tags_are_not_looked_at() -> None:
    assert lint("亲，{{ order.shipments[0].tracking_no }}{% if promo.coupon_url %}可以领{% endif %}") == ()
    assert "superlative" in codes("{{ product.title }}是最好的")


def test_a_complaint_takes_no_emoji_and_no_light_signs_and_must_apologise() -> None:
    assert codes("非常抱歉给您添麻烦了，我已登记并转给同事。", "complaint") == []
    assert "emoji_in_complaint" in codes("抱歉😊", "complaint")
    assert "emoji_in_complaint" in codes("抱歉[微笑]", "complaint")
    assert "light_in_complaint" in codes("抱歉亲～", "complaint")
    assert "no_apology" in codes("您的反馈已登记。", "complaint")


def test_mail_is_not_addressed_as_dear() -> None:
    assert "dear_in_mail" in codes("亲，您好", "mail")
    assert codes("尊敬的客户，您好，母亲节活动已结束。", "mail") == []


def test_one_emoji_is_enough_in_a_friendly_text() -> None:
    assert codes("好的亲😊", "quick_reply") == []
    assert codes("好的亲😊🌹", "quick_reply") == ["many_emoji"]


def test_a_text_may_have_three_hundred_characters() -> None:
    assert lint("好" * MAX_LENGTH) == ()
    assert codes("好" * (MAX_LENGTH + 1)) == ["too_long"]


def test_a_finding_shows_the_words_and_a_fix() -> None:
    (finding,) = lint("这个价格是全网最低价了亲")[:1]
    assert "最低价" in finding.excerpt or "全网最" in finding.excerpt
    assert finding.fix
