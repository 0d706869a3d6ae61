"""Nothing in the knowledge fits: one clarifying question, then a human (E7); 'ok' needs neither.

Source: the domain rules, section 4.1 and E7.
"""

from __future__ import annotations

from app.domain.orders import OrderLookup
from app.replies.handlers import order_choice
from app.replies.handlers.opening import welcome
from app.replies.lexicon import is_acknowledgement
from app.replies.orders import typed_order_ids
from app.replies.outcome import Outcome, OutcomeKind
from app.replies.rules import RULE
from app.replies.situation import Situation

__all__ = ["not_understood", "somebody_elses_order", "to_human"]


def not_understood(situation: Situation, *, social: bool = False) -> Outcome:
    """Return what a message gets that no entry answers. ``social``: it says nothing but hello, thanks or the like."""
    memory = situation.memory
    if social and not memory.welcomed and (greeting := welcome(situation, greets=False)) is not None:
        situation.remember(welcomed=True)
        return Outcome(kind=OutcomeKind.ANSWER, sayings=(greeting,), reason="greeted", social=True)
    if (social or is_acknowledgement(situation.text)) and (
        memory.topic is not None or memory.welcomed or social
    ):
        return Outcome(
            kind=OutcomeKind.ANSWER,
            sayings=(situation.say("acknowledge"),),
            reason="acknowledge",
            social=True,
        )
    if (about_order := _own_order_number(situation)) is not None:
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
