"""Refund progress: the state from the order; rejected or late goes to a human with an apology.

Source: the domain rules, section 5.7 (refund_progress) and E17.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.core.clock import from_rfc3339
from app.replies.outcome import Outcome, OutcomeKind
from app.replies.rules import RULE
from app.replies.situation import Situation

__all__ = ["check_refund"]

_REJECTED = frozenset({"rejected", "refused", "closed", "failed"})
_DONE = frozenset({"succeeded", "success", "refunded", "completed"})


def check_refund(situation: Situation, outcome: Outcome) -> Outcome:
    """Add an apology and hand over when the refund was rejected or its expected time has passed."""
    order = situation.known_order(outcome.topic)
    refunds = order.doc.get("refunds") if order is not None else None
    if order is None or not refunds:
        return outcome
    refund: Mapping[str, Any] = refunds[0]
    status = str(refund.get("status") or "").lower()
    if status not in _REJECTED and not (
        status not in _DONE and _has_passed(refund.get("eta"), situation.now_ms)
    ):
        return outcome
    situation.why.append("refund_overdue")
    rule = RULE["E17"]
    return replace(
        outcome,
        kind=OutcomeKind.ESCALATE,
        sayings=(*outcome.sayings, situation.say("refund_overdue")),
        rule=rule,
        reason=rule.reason,
        group="aftersale",
    )


def _has_passed(eta: object, now_ms: int) -> bool:
    if not isinstance(eta, str) or not eta:
        return False
    try:
        # A bare date lasts until its end, in whatever zone the shop lives.
        return from_rfc3339(eta) + (36 * 3_600_000 if len(eta) == 10 else 0) < now_ms
    except ValueError:
        return False
