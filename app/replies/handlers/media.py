"""Messages that are no text: pictures, videos, voice, cards, bare emoji, and kinds nobody knows yet.

Source: the domain rules, E8, E9 and section 14 (message kinds).
"""

from __future__ import annotations

from app.domain.messages import ContentType
from app.domain.orders import SHIPPED_STATUSES, OrderLookup
from app.domain.turns import Applied, Utterance
from app.replies import lexicon
from app.replies.handlers import order_choice
from app.replies.outcome import Outcome, OutcomeKind
from app.replies.rules import RULE
from app.replies.situation import Situation
from app.replies.templates import MissingFact

__all__ = ["answer_media", "kind_of"]

_TEXT = ContentType.TEXT
_LONGEST_MARK = 24
_LONGEST_EMOJI = 2_000
"""A wall of emoji is still nothing but emoji; beyond this nobody looks."""


def kind_of(utterance: Utterance) -> str:
    """Return what a message is to the bot: ``text``, ``emoji``, ``image``, ``voice`` (also unknown), or a card."""
    content = utterance.content
    if content.type is _TEXT:
        text = content.text
        if _is_word(text[:1]):
            return "text"
        if not text.strip():
            return "voice"
        mark = lexicon.media_mark(text) if len(text) <= _LONGEST_MARK else None
        if mark is not None:
            return "image" if mark in ("image", "video") else "voice"
        return "emoji" if len(text) <= _LONGEST_EMOJI and lexicon.is_emoji_only(text) else "text"
    if content.type in (ContentType.IMAGE, ContentType.VIDEO):
        return "image"
    if content.type is ContentType.ORDER_CARD:
        return "order_card"
    if content.type is ContentType.PRODUCT_CARD:
        return "product_card"
    return "voice"


def _is_word(char: str) -> bool:
    """Whether a character belongs to words only: what begins with it stands for no picture and is no row of faces."""
    return "\u4e00" <= char <= "\u9fff" or (char.isascii() and char.isalnum())


def answer_media(situation: Situation, kinds: set[str]) -> Outcome:
    """Return what a burst without any text gets; ``kinds`` as ``kind_of`` names them, at least one."""
    if "image" in kinds:
        return _picture(situation)
    if "voice" in kinds:
        return _voice(situation)
    if "order_card" in kinds:
        return _order_card(situation)
    if "product_card" in kinds:
        return _product_card(situation)
    return Outcome(
        kind=OutcomeKind.ANSWER,
        sayings=(situation.say("emoji_friendly"),),
        applied=_applied("emoji_only"),
        topic="emoji_only",
        social=True,
    )


def _picture(situation: Situation) -> Outcome:
    rule = RULE["E8"]
    applied = _applied("media_image")
    streak = situation.memory.non_text_streak + 1
    situation.remember(non_text_streak=streak)
    situation.want_orders()
    picked = situation.pick(None)
    candidates = (picked.order,) if picked.order is not None else picked.options
    if any(order.status in SHIPPED_STATUSES for order in candidates):
        return Outcome(
            kind=OutcomeKind.ESCALATE,
            sayings=(situation.say("image_aftersale"),),
            applied=applied,
            topic="media_image",
            rule=rule,
            reason=rule.reason,
            group="aftersale",
        )
    if streak >= 2:
        return _second(situation, applied, "E8")
    return Outcome(
        kind=OutcomeKind.ASK,
        sayings=(situation.say("image_which_item"),),
        applied=applied,
        topic="media_image",
        reason="which_item",
    )


def _voice(situation: Situation) -> Outcome:
    applied = _applied("media_voice")
    streak = situation.memory.non_text_streak + 1
    situation.remember(non_text_streak=streak, voice_streak=situation.memory.voice_streak + 1)
    if streak >= 2:
        return _second(situation, applied, "E9")
    return Outcome(
        kind=OutcomeKind.ASK,
        sayings=(situation.say("voice_as_text" if _is_heard(situation) else "blank_as_text"),),
        applied=applied,
        topic="media_voice",
        reason="text_please",
    )


def _is_heard(situation: Situation) -> bool:
    """Whether something in the burst may be speech; a blank message is not, and 'I can't listen' would be odd."""
    return any(
        utterance.content.type is not ContentType.TEXT or utterance.content.text.strip()
        for utterance in situation.turn.utterances
    )


def _second(situation: Situation, applied: Applied, rule_id: str) -> Outcome:
    rule = RULE[rule_id]
    return Outcome(
        kind=OutcomeKind.ESCALATE,
        sayings=(situation.say("media_human", generic=True),),
        applied=applied,
        topic=applied.topic,
        rule=rule,
        reason=rule.reason,
    )


def _order_card(situation: Situation) -> Outcome:
    situation.want_orders()
    assert situation.turn.orders is not None
    if situation.pick(None).order is None:
        if situation.turn.orders.lookup in (OrderLookup.NOT_FOUND, OrderLookup.NONE):
            return order_choice.not_found(situation, None, None)
        return Outcome(
            kind=OutcomeKind.ESCALATE,
            sayings=(situation.say("orders_unavailable"),),
            reason="orders_unavailable",
        )
    return Outcome(kind=OutcomeKind.ASK, sayings=(situation.say("order_noted"),), reason="order_card")


def _product_card(situation: Situation) -> Outcome:
    attached = situation.attached_product_id()
    if attached is not None:
        situation.remember(product_id=attached)
    try:
        saying = situation.say_strictly("product_noted")
    except MissingFact:
        saying = situation.say("clarify")
    return Outcome(kind=OutcomeKind.ASK, sayings=(saying,), reason="product_card")


def _applied(topic: str) -> Applied:
    return Applied(entry_id=topic, topic=topic, confidence=1.0)
