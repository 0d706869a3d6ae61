"""Nothing in the knowledge fits: one clarifying question, then a human (E7); 'ok' needs neither.

Source: the domain rules, section 4.1 and E7.
"""

from __future__ import annotations

import re

from app.domain.knowledge import Entry
from app.domain.matching import Match
from app.domain.orders import OrderLookup
from app.domain.turns import Applied
from app.replies.handlers import order_choice
from app.replies.handlers.opening import welcome
from app.replies.orders import typed_order_ids
from app.replies.outcome import Outcome, OutcomeKind
from app.replies.rules import RULE
from app.replies.situation import Situation
from app.replies.talk import is_bare_data

__all__ = [
    "HANDED_OVER_AT",
    "acknowledged",
    "is_weighty",
    "not_understood",
    "somebody_elses_order",
    "to_human",
    "unsure_to_human",
]

HANDED_OVER_AT = 0.75
"""From this confidence on a matter that ends with a human anyway goes to one without asking back first (E7).

Source: read decisions: of the messages above it whose best entry hands over, nearly all needed somebody who can act on
the order, also where the entry itself was the wrong one.
"""

_SUBJECTS = (
    ("clarify_invoice", re.compile(r"发票|开票|抬头|税号|专票|增票|普票|invoice", re.IGNORECASE)),
    (
        "clarify_aftersale",
        re.compile(
            r"退货|退款|退掉|退了|退钱|退回|换货|换一|售后|返修|维修|修理|保修|质保|坏|破|裂|漏|瑕疵|质量|refund|return|broken",
            re.IGNORECASE,
        ),
    ),
    (
        "clarify_price",
        re.compile(
            r"优惠|[券卷]|活动|降价|差价|保价|价保|便宜|满减|折|红包|coupon|discount|price", re.IGNORECASE
        ),
    ),
    (
        "clarify_delivery",
        re.compile(
            r"发货|物流|快递|快件|包裹|配送|派送|送货|送到|送达|收货|到货|取件|自提|站点|收到|签收|寄|deliver|shipping|parcel|track",
            re.IGNORECASE,
        ),
    ),
    (
        "clarify_order",
        re.compile(r"订单|下单|付款|支付|取消|地址|拍下|重新拍|白条|付钱|order|payment", re.IGNORECASE),
    ),
)
"""Words to the question that shows what was understood so far; the first that is found."""

_WEIGHTY = (
    "退",
    "赔",
    "投诉",
    "差评",
    "坏",
    "破",
    "错",
    "少发",
    "漏发",
    "没收到",
    "骗",
    "refund",
    "broken",
    "wrong",
)


_CALLS = re.compile(
    r"好|在|老板|亲|喂|嗨|哈|问|早|有人|客服|人呢|谢|hi|hello|hey|thank|bye|拜|再见|晚安", re.IGNORECASE
)
"""Words of a call or a farewell; courtesy without any ('你们的') is a fragment."""


def is_weighty(text: str) -> bool:
    """Whether an unanswered part is about trouble, so that answering only the rest would be unsafe."""
    return any(word in text for word in _WEIGHTY)


def acknowledged(situation: Situation) -> Outcome:
    """Return what 'ok', a laugh or 'let me see' gets: a short friendly line once, then nothing.

    Nothing also while a question of ours is open or a colleague is on the way.
    """
    memory = situation.memory
    waiting = memory.offered or memory.order_choices or memory.asked_entry
    if situation.held or waiting or _ACKNOWLEDGED in memory.topic_counts:
        return Outcome(kind=OutcomeKind.SILENT, reason="acknowledged")
    situation.remember(topic_counts=(*memory.topic_counts, _ACKNOWLEDGED))
    return Outcome(
        kind=OutcomeKind.ANSWER, sayings=(situation.say("acknowledge"),), reason="acknowledge", social=True
    )


_ACKNOWLEDGED = ("acknowledged", 1)


def not_understood(situation: Situation, *, social: bool = False) -> Outcome:
    """Return what a message gets that no entry answers. ``social``: it says nothing but hello, thanks or the like."""
    memory = situation.memory
    social = social and _CALLS.search(situation.text) is not None
    if social and not memory.welcomed and (greeting := welcome(situation, greets=False)) is not None:
        situation.remember(welcomed=True)
        return Outcome(kind=OutcomeKind.ANSWER, sayings=(greeting,), reason="greeted", social=True)
    if social:
        node = "acknowledge" if not memory.welcomed else "listening"
        return Outcome(
            kind=OutcomeKind.ANSWER, sayings=(situation.say(node),), reason="acknowledge", social=True
        )
    if (about_order := _own_order_number(situation)) is not None:
        return about_order
    if situation.held:
        return Outcome(kind=OutcomeKind.SILENT, reason="waiting_for_human")
    if memory.unknown_streak >= 1 or not situation.turn.snapshot.entries:
        return to_human(situation)
    situation.remember(unknown_streak=1, offered=())
    node = "data_noted" if is_bare_data(situation.text) else _subject(situation.text)
    return Outcome(kind=OutcomeKind.ASK, sayings=(situation.say(node),), reason="clarify")


def _subject(text: str) -> str:
    return next((node for node, words in _SUBJECTS if words.search(text)), "clarify")


def to_human(situation: Situation) -> Outcome:
    """Return the handover after the second question in a row that nobody could answer (E7)."""
    rule = RULE["E7"]
    situation.remember(unknown_streak=min(9, situation.memory.unknown_streak + 1), offered=())
    return Outcome(
        kind=OutcomeKind.ESCALATE,
        sayings=(situation.say("hold", generic=True),),
        rule=rule,
        reason=rule.reason,
    )


def unsure_to_human(situation: Situation, entry: Entry, match: Match) -> Outcome:
    """Return the handover of an order matter that isn't certain (E7): no word of the entry, but its group."""
    rule = RULE["E7"]
    situation.why.append("unsure")
    return Outcome(
        kind=OutcomeKind.ESCALATE,
        sayings=(situation.say("hold", generic=True),),
        applied=Applied(entry_id=entry.id, topic=entry.topic, confidence=match.confidence),
        topic=entry.topic,
        rule=rule,
        reason=rule.reason,
        group=entry.default.group,
    )


def somebody_elses_order(situation: Situation) -> Outcome | None:
    """Say so when the message names an order number that is none of the buyer's; None when it names none such."""
    if not typed_order_ids(situation.text):
        return None
    situation.want_orders()
    view = situation.turn.orders
    assert view is not None
    if view.lookup is not OrderLookup.NOT_FOUND or situation.pick(None).order is not None:
        return None
    return order_choice.not_found(situation, situation.memory.asked_entry, None)


def _own_order_number(situation: Situation) -> Outcome | None:
    """Take up a message that is little more than an order number; None when it says something else."""
    if (stranger := somebody_elses_order(situation)) is not None:
        return stranger
    typed = "".join(typed_order_ids(situation.text))
    if not typed or len(situation.text.strip()) > len(typed) + 8 or situation.pick(None).order is None:
        return None
    return Outcome(kind=OutcomeKind.ASK, sayings=(situation.say("order_noted"),), reason="order_number")
