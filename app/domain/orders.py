"""Order context: one shape whatever the marketplace, exactly what templates and agents see.

Source: the contracts page, section 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from app.core.values import value

__all__ = ["OPEN_STATUSES", "SHIPPED_STATUSES", "Order", "OrderLookup", "OrderStatus", "OrderView"]


class OrderStatus(StrEnum):
    """Life of an order, in order."""

    PENDING_PAYMENT = "pending_payment"
    PAID = "paid"
    PREPARING = "preparing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    COMPLETED = "completed"
    CLOSED = "closed"


SHIPPED_STATUSES = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED, OrderStatus.COMPLETED})
"""The parcel has left the warehouse."""

OPEN_STATUSES = frozenset(
    {OrderStatus.PENDING_PAYMENT, OrderStatus.PAID, OrderStatus.PREPARING, OrderStatus.SHIPPED}
)
"""Something is still to happen; these orders count as active when one has to be chosen."""


@value(frozen=True, slots=True, kw_only=True)
class Order:
    """One order of one buyer.

    ``doc`` is the contract's whole JSON object (times RFC 3339, money decimal strings); the other fields are what
    decisions are made on, already parsed. Times are milliseconds UTC.
    """

    order_id: str
    buyer_id: str
    status: OrderStatus
    doc: Mapping[str, Any]
    created_at_ms: int | None = None
    paid_at_ms: int | None = None
    promised_ship_at_ms: int | None = None
    shipped_at_ms: int | None = None
    delivered_at_ms: int | None = None
    trace_at_ms: int | None = None
    fetched_at_ms: int = 0
    stale: bool = False

    @property
    def title(self) -> str:
        """The first item's title, or an empty text: how a buyer recognises the order."""
        items: Sequence[Mapping[str, Any]] = self.doc.get("items") or ()
        return str(items[0].get("title") or "") if items else ""

    def is_overdue(self, now_ms: int) -> bool:
        """Whether it is paid, not shipped, and past the promised shipping time."""
        return (
            self.status in (OrderStatus.PAID, OrderStatus.PREPARING)
            and self.promised_ship_at_ms is not None
            and now_ms > self.promised_ship_at_ms
        )


class OrderLookup(StrEnum):
    """How looking for the orders of a turn ended."""

    FOUND = "found"
    NONE = "none"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    UNSUPPORTED = "unsupported"


@value(frozen=True, slots=True, kw_only=True)
class OrderView:
    """The orders known in a turn.

    ``lookup``: FOUND at least one; NONE the buyer has no orders; NOT_FOUND the order asked for (``asked_id``) isn't
    one of this buyer's; UNAVAILABLE the order service failed and nothing is cached; UNSUPPORTED the account has no
    order service. ``attached`` is an order the platform itself named (card or message), which is trusted.
    """

    lookup: OrderLookup
    orders: tuple[Order, ...] = ()
    attached: Order | None = None
    asked_id: str | None = None
    asked: Order | None = None
