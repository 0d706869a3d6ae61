"""Parcels and promised times: stale traces, orders that haven't left, and our own delays.

Source: the domain rules, sections 4.5, 5.6 and 5.7, and E17.
"""

from __future__ import annotations

from dataclasses import replace

from app.domain.knowledge import CaseSpec
from app.domain.orders import SHIPPED_STATUSES, Order, OrderStatus
from app.domain.turns import Applied
from app.replies.outcome import Outcome, OutcomeKind
from app.replies.rules import RULE
from app.replies.situation import Situation

__all__ = ["check_promise", "check_trace", "not_shipped"]


def check_trace(situation: Situation, outcome: Outcome) -> Outcome:
    """Turn an answer about a parcel whose last trace is too old into an apology, a case and a handover."""
    order = situation.known_order(outcome.topic)
    if order is None:
        return outcome
    if order.is_overdue(situation.now_ms):
        return check_promise(situation, outcome)
    if order.status is OrderStatus.SHIPPED and order.trace_at_ms is not None:
        age_ms = situation.now_ms - order.trace_at_ms
        if age_ms > situation.shop.stale_trace_hours * 3_600_000:
            situation.why.append("trace_stale")
            return replace(
                outcome,
                kind=OutcomeKind.ESCALATE,
                sayings=(*outcome.sayings, situation.say("trace_stale")),
                reason="trace_stale",
                group="aftersale",
                case=CaseSpec(kind="logistics_query", fields={"order_id": order.order_id}),
            )
    return _mark_stale(situation, outcome, order)


def check_promise(situation: Situation, outcome: Outcome) -> Outcome:
    """Turn an answer about an order past its promised shipping time into an apology, a case and a handover (E17)."""
    order = situation.known_order(outcome.topic)
    if order is None:
        return outcome
    if not order.is_overdue(situation.now_ms):
        return _mark_stale(situation, outcome, order)
    situation.why.append("ship_overdue")
    # The entry's text still speaks of a time that has passed, so the apology stands alone.
    return replace(
        outcome,
        kind=OutcomeKind.ESCALATE,
        sayings=(situation.say("ship_overdue"),),
        rule=RULE["E17"],
        reason=RULE["E17"].reason,
        group="aftersale",
        case=CaseSpec(kind="ship_urge", fields={"order_id": order.order_id}),
    )


def not_shipped(situation: Situation, order: Order, applied: Applied) -> Outcome | None:
    """Return the answer about the parcel of an order that hasn't left yet; None when it has."""
    if order.status in SHIPPED_STATUSES or order.status is OrderStatus.CLOSED:
        return None
    outcome = Outcome(
        kind=OutcomeKind.ANSWER,
        sayings=(situation.say_first("ship_pending", "ship_pending_plain"),),
        applied=applied,
        topic=applied.topic,
    )
    return check_promise(situation, outcome)


def _mark_stale(situation: Situation, outcome: Outcome, order: Order) -> Outcome:
    if not order.stale:
        return outcome
    return replace(outcome, sayings=(*outcome.sayings, situation.say("order_data_stale")))
