"""Nothing in the knowledge fits: one clarifying question, then a human (E7); 'ok' needs neither.

Source: the domain rules, section 4.1 and E7.
"""

from __future__ import annotations

from app.domain.orders import OrderLookup
from app.replies.handlers import order_choice
from app.replies.lexicon import is_acknowledgement
from app.replies.orders import typed_order_ids
from app.replies.outcome import Outcome, OutcomeKind
from app.replies.rules import RULE
from app.replies.situation import Situation

__all__ = ["not_understood"]


def not_understood(situation: Situation, *, social: bool = False) -> Outcome:
    """Return what a message gets that no entry answers. ``social``: it says nothing but hello, thanks or the like."""
    memory = situation.memory
    if (social or is_acknowledgement(situation.text)) and (
        memory.topic is not None or memory.welcomed or social
    ):
        return Outcome(
            kind=OutcomeKind.ANSWER,
            sayings=(situation.say("acknowledge"),),
            reason="acknowledge",
            social=True,
        )
    if typed_order_ids(situation.text) and (about_order := _typed_number(situation)) is not None:
        return about_order
    if situation.held:
        return Outcome(kind=OutcomeKind.SILENT, reason="waiting_for_human")
    if memory.unknown_streak >= 1 or not situation.turn.snapshot.entries:
        return to_human(situation)
    situation.remember(unknown_streak=1, offered=())
    return Outcome(kind=OutcomeKind.ASK, sayings=(situation.say("clarify"),), reason="clarify")


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


def _typed_number(situation: Situation) -> Outcome | None:
    """Look a typed order number up; None when it explains nothing about what the buyer wants."""
    situation.want_orders()
    view = situation.turn.orders
    assert view is not None
    picked = situation.pick(None)
    if view.lookup is OrderLookup.NOT_FOUND and picked.order is None:
        return order_choice.not_found(situation, situation.memory.asked_entry, None)
    digits = "".join(typed_order_ids(situation.text))
    if picked.order is not None and len(situation.text.strip()) <= len(digits) + 8:
        return Outcome(kind=OutcomeKind.ASK, sayings=(situation.say("order_noted"),), reason="order_number")
    return None
