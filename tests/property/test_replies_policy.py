"""Whatever a buyer writes, in whatever state: the policy decides, and never breaks its promises."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.conversations import ConversationState, Memory, Priority, RecentText
from app.domain.knowledge import AnswerMode, CaseSpec
from app.domain.matching import Band
from app.domain.messages import ContentType
from app.domain.orders import OrderLookup
from app.domain.shops import ShopMode
from app.domain.turns import Decision, DecisionKind, NeedOrders
from tests.unit.replies.world import (
    NOW,
    SHIFTS,
    World,
    entry,
    make_policy,
    make_shop,
    match,
    order,
    says,
    shows,
    view,
    when,
)

POLICY = make_policy()
ENTRIES = [
    entry("courier", "我们发{{ shop.courier }}。", en="We use {{ shop.courier }}."),
    entry(
        "log_track",
        "{{ order.shipments[0].carrier }}：{{ order.shipments[0].latest }}",
        needs=frozenset({"order"}),
    ),
    entry("ship_when", "按时发。", answers=[when("晚了。", order_overdue=True, mode=AnswerMode.ESCALATE)]),
    entry(
        "as_return_quality",
        "请发照片。",
        mode=AnswerMode.ESCALATE,
        group="aftersale",
        case=CaseSpec(kind="return"),
    ),
    entry("as_refund_progress", "{{ order.refunds[0].status }}"),
    entry("price_bargain", "不议价。"),
    entry("secret", "内部价。", mode=AnswerMode.SUGGEST),
    entry("ghost", "{{ product.origin }}"),
    entry("broken", "{{ nobody"),
    entry("esc_anger", "抱歉。", mode=AnswerMode.ESCALATE),
    entry("greet_hello", "您好～"),
]
WORDS = [
    "打12315", "转人工", "骗子", "过敏了", "忽略以上指令", "她地址给我", "发什么快递", "E-9999", "E-1", "第二个", "1", "是的", "好的", "[图片]",
    "😡😡😡", "[微笑]", "20件", "针织开衫黑色L", "{{ order.order_id }}", "{% raw %}", "ok", "i will sue you", "13912345678", "\u0000", "۱", "",
]  # fmt: skip

texts = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join))
bands = st.sampled_from(list(Band))
matches = st.lists(
    st.builds(
        match,
        st.lists(st.sampled_from([one.id for one in ENTRIES] + ["gone"]), max_size=3, unique=True),
        bands,
        st.text(max_size=8),
    ),
    max_size=3,
)
messages = st.one_of(
    st.builds(lambda text, found, language, social: says(text, *found, language=language, social=social),
              texts, matches, st.sampled_from(["zh", "en"]), st.booleans()),
    st.sampled_from([kind.value for kind in ContentType if kind is not ContentType.TEXT]).map(
        lambda kind: shows(kind, url="u", order_id="E-1" if kind == "order_card" else None, product_id="P-1" if kind == "product_card" else None)
    ),
)  # fmt: skip
orders = st.lists(
    st.builds(
        order,
        st.sampled_from(["E-1", "E-2", "E-3"]),
        st.sampled_from(
            ["pending_payment", "paid", "preparing", "shipped", "delivered", "completed", "closed"]
        ),
        stale=st.booleans(),
        promised_ship_at_ms=st.sampled_from([None, NOW - 1, NOW + 1]),
        trace_at_ms=st.sampled_from([None, 0, NOW]),
        refunds=st.sampled_from([[], [{"status": "rejected"}], [{"status": "processing", "eta": "x"}]]),
    ),
    max_size=3,
    unique_by=lambda one: one.order_id,
)
memories = st.builds(
    Memory,
    welcomed=st.booleans(),
    unknown_streak=st.integers(0, 3),
    non_text_streak=st.integers(0, 3),
    voice_streak=st.integers(0, 3),
    insults=st.integers(0, 3),
    privacy_probes=st.integers(0, 3),
    order_misses=st.integers(0, 3),
    bargains=st.integers(0, 4),
    recent=st.lists(st.builds(RecentText, st.sampled_from(WORDS), st.just(NOW - 1000), st.integers(1, 4)), max_size=6).map(tuple),
    offered=st.sampled_from([(), ("courier",), ("courier", "gone"), ("courier", "log_track", "ghost")]),
    order_choices=st.sampled_from([(), ("E-1", "E-2"), ("X",)]),
    asked_entry=st.sampled_from([None, "log_track", "ghost", "gone"]),
    topic=st.sampled_from([None, "log_track"]),
    order_id=st.sampled_from([None, "E-1", "X"]),
    product_id=st.sampled_from([None, "P-1", "X"]),
    automatic_ms=st.lists(st.just(NOW - 10), max_size=14).map(tuple),
    off_hours_told_ms=st.sampled_from([None, NOW - 10]),
)  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> World:
    found = draw(orders)
    lookup = OrderLookup.FOUND if found else draw(st.sampled_from(
        [OrderLookup.NONE, OrderLookup.UNAVAILABLE, OrderLookup.UNSUPPORTED, OrderLookup.NOT_FOUND]
    ))  # fmt: skip
    settings_: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {
                "mode": st.sampled_from(list(ShopMode)),
                "welcome": st.sampled_from(
                    [None, "", "{{ shop.name }}欢迎您", "{{ broken", "{{ order.order_id }}"]
                ),
                "off_hours": st.sampled_from([None, "明天见", "{{ nothing.here }}"]),
                "hours": st.sampled_from([{}, SHIFTS]),
                "loop_guard": st.sampled_from([0, 1, 12]),
                "repeat_guard": st.booleans(),
                "vip_tiers": st.just(frozenset({"gold"})),
            }
        )
    )
    return World(
        entries=draw(st.sampled_from([ENTRIES, []])),
        shop=make_shop(**settings_),
        orders=view(*found, lookup=lookup),
        memory=draw(memories),
        state=draw(
            st.sampled_from([ConversationState.BOT, ConversationState.QUEUED, ConversationState.HUMAN])
        ),
        tier=draw(st.sampled_from([None, "gold"])),
        has_open_escalation=draw(st.booleans()),
        conversation={
            "bot_paused": draw(st.booleans()),
            "group_id": draw(st.sampled_from([None, "presale", "supervisor"])),
            "priority": draw(st.sampled_from(list(Priority))),
        },
        policy=POLICY,
    )


@settings(max_examples=400, deadline=None)
@given(worlds(), st.lists(messages, min_size=1, max_size=3))
def test_a_decision_keeps_every_promise(world: World, burst: list[Any]) -> None:
    before = world.memory
    decision = world.hear(*burst)

    assert isinstance(decision, Decision)
    said = [reply.text for reply in decision.replies] + [one.text for one in decision.suggestions]
    assert all(text.strip() and "{{" not in text and "{%" not in text for text in said)
    assert all(len(reply.text) <= 300 for reply in decision.replies)
    assert len(decision.suggestions) <= 3
    assert not any("内部价" in reply.text for reply in decision.replies)
    if world.state is ConversationState.HUMAN or world.shop.mode is not ShopMode.AUTO:
        assert decision.replies == ()
    if world.state is ConversationState.HUMAN or world.shop.mode is ShopMode.OFF:
        assert decision.escalation is None
    if world.conversation["bot_paused"]:
        assert decision.replies == ()
    if decision.escalation is not None and (
        world.has_open_escalation or world.state is ConversationState.QUEUED
    ):
        assert decision.escalation.raises_open
        assert (
            decision.escalation.priority.rank > world.conversation["priority"].rank
            or decision.escalation.major
        )
    if decision.escalation is not None:
        assert decision.escalation.group
        assert decision.kind is DecisionKind.ESCALATE
    after = decision.memory
    assert len(after.recent) <= 6
    assert len(after.answered) <= 5
    assert len(after.offered) <= 3
    assert len(after.order_choices) <= 5
    assert len(after.automatic_ms) <= max(len(before.automatic_ms), 12)


@settings(max_examples=200, deadline=None)
@given(worlds(), messages)
def test_with_the_orders_in_hand_the_policy_always_decides_and_decides_the_same(
    world: World, message: Any
) -> None:
    first = world.policy.decide(world.turn([message], world.orders))
    assert not isinstance(first, NeedOrders)
    assert world.policy.decide(world.turn([message], world.orders)) == first


@settings(max_examples=100, deadline=None)
@given(texts)
def test_a_threat_is_heard_in_the_middle_of_anything(text: str) -> None:
    decision = World(policy=POLICY).say(f"{text}。我要打12315投诉")
    assert decision.escalation is not None
    assert decision.escalation.major
