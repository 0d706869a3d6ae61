"""The stage of a conversation and the group its escalations go to: labels derived from order facts and topics.

Source: the domain rules, section 2 (routing) and section 3 (stage machine).
"""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.orders import SHIPPED_STATUSES, Order, OrderStatus
from app.replies.topics import AFTERSALE_PREFIXES, COMPLAINT_TOPICS, stage_after

__all__ = ["group_by_stage", "stage_label"]

_UNSHIPPED_REFUNDS = frozenset(
    {"as_unshipped_refund", "as_refund_progress", "as_refund_rejected", "as_refund_only"}
)


def group_by_stage(order: Order | None, topic: str | None, now_ms: int) -> str:
    """Return ``presale`` or ``aftersale`` for an escalation whose entry names no group.

    No order, unpaid, or paid and not shipped: presale; shipped or later: aftersale; refund, return, complaint and
    review always aftersale; shipping that is overdue likewise.
    """
    if topic is not None and (
        topic in _UNSHIPPED_REFUNDS or topic in COMPLAINT_TOPICS or topic.startswith(AFTERSALE_PREFIXES)
    ):
        return "aftersale"
    if order is None:
        return "presale"
    if order.status in SHIPPED_STATUSES or order.is_overdue(now_ms):
        return "aftersale"
    if order.status is OrderStatus.CLOSED:
        return "aftersale" if order.shipped_at_ms is not None or order.doc.get("refunds") else "presale"
    return "presale"


def stage_label(before: str, topics: Sequence[str], order: Order | None) -> str:
    """Return the stage after a turn: what its topics lead to, corrected by the order, else the stage before.

    Going from ``welcome`` needs no topic: after the first answered turn the conversation is a dialogue.
    """
    for topic in reversed(topics):
        stage = stage_after(topic)
        if stage == "courier_choice" and order is not None and order.status in SHIPPED_STATUSES:
            return "aftersales"
        if stage is not None:
            return stage
        if topic.startswith(("prod_", "size_", "mat_", "stock_", "promo_", "gift_")):
            return "dialogue"
    return "dialogue" if before in ("welcome", "closed") else before
