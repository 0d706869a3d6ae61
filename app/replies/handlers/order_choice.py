"""When the order isn't clear: ask which, say that none was found, and take the buyer's pick.

Source: the domain rules, section 14 (several orders) and E13.
"""

from __future__ import annotations

from app.domain.orders import Order, OrderLookup
from app.domain.turns import Applied
from app.replies.orders import option_line, option_line_en, ordinal, typed_order_ids
from app.replies.outcome import Outcome, OutcomeKind, Saying
from app.replies.rules import RULE
from app.replies.situation import Situation

__all__ = ["ask_which", "none_known", "not_found", "picked_order", "picks_by_position"]


def ask_which(situation: Situation, options: tuple[Order, ...], entry_id: str, applied: Applied) -> Outcome:
    """Ask which of several orders is meant, and remember what was asked for."""
    line = option_line if situation.language == "zh" else option_line_en
    lead = situation.say("order_which")
    lines = "\n".join(line(position, order) for position, order in enumerate(options, start=1))
    situation.remember(
        order_choices=tuple(order.order_id for order in options), asked_entry=entry_id, offered=()
    )
    return Outcome(
        kind=OutcomeKind.ASK,
        sayings=(Saying(f"{lead.text}\n{lines}", lead.source, lead.node),),
        applied=applied,
        topic=applied.topic,
        reason="order_choice",
    )


def none_known(situation: Situation, entry_id: str, applied: Applied) -> Outcome:
    """Ask for the order number when the buyer has no order here; the second time a human looks (E13)."""
    return _missed(situation, entry_id, applied, "order_none")


def not_found(situation: Situation, entry_id: str | None, applied: Applied | None) -> Outcome:
    """Say that a typed number is none of the buyer's orders; the second time a human looks (E13)."""
    situation.logs.append("order_not_own")
    return _missed(situation, entry_id, applied, "order_not_found")


def _missed(situation: Situation, entry_id: str | None, applied: Applied | None, text_id: str) -> Outcome:
    misses = situation.memory.order_misses + 1
    situation.remember(order_misses=misses)
    topic = applied.topic if applied is not None else None
    if misses >= 2:
        rule = RULE["E13"]
        assert rule.text is not None
        return Outcome(
            kind=OutcomeKind.ESCALATE,
            sayings=(situation.say(rule.text),),
            applied=applied,
            topic=topic,
            rule=rule,
            reason=rule.reason,
        )
    situation.remember(asked_entry=entry_id)
    return Outcome(
        kind=OutcomeKind.ASK,
        sayings=(situation.say(text_id),),
        applied=applied,
        topic=topic,
        reason=text_id,
    )


def picks_by_position(situation: Situation) -> bool:
    """Whether a message is an ordinal that fits the orders listed last."""
    return ordinal(situation.text, len(situation.memory.order_choices)) is not None


def picked_order(situation: Situation) -> bool:
    """Take '1', '第二个', a number's last digits, a whole number or a card as the pick of an order.

    Returns:
        Whether this message picks an order; memory then knows it.

    Raises:
        OrdersWanted: the orders have to be looked up to know.
    """
    memory = situation.memory
    attached = situation.attached_order_id()
    if attached is not None:
        if memory.order_id != attached:
            situation.remember(order_id=attached)
        return True
    text = situation.text.strip()
    if memory.order_choices:
        position = ordinal(text, len(memory.order_choices))
        digits = text.lstrip("尾号是").rstrip("的那个单。.")
        chosen = memory.order_choices[position] if position is not None else None
        if chosen is None and 3 <= len(digits) <= 32:
            endings = [order_id for order_id in memory.order_choices if order_id.endswith(digits)]
            chosen = endings[0] if len(endings) == 1 else None
        if chosen is not None:
            situation.remember(order_id=chosen)
            return True
    if memory.asked_entry is not None or memory.order_choices:
        typed = typed_order_ids(text)
        if typed:
            situation.want_orders()
            assert situation.turn.orders is not None
            return (
                situation.turn.orders.lookup is not OrderLookup.NOT_FOUND
                or situation.turn.orders.asked is not None
            )
        if memory.order_choices:
            situation.want_orders()
            picked = situation.pick(None)
            return picked.order is not None and picked.order.order_id in memory.order_choices
    return False
