"""When a conditional answer holds. Source: the contracts page, section 6 (``when``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from app.domain.knowledge import Condition, Entry
from app.domain.orders import Order

__all__ = ["ConditionFacts", "asks_about_order", "holds"]


class ConditionFacts(Protocol):
    """What conditions are evaluated against; each fact is looked up only when a condition names it."""

    @property
    def channel(self) -> str: ...
    @property
    def tier(self) -> str | None: ...
    @property
    def now_ms(self) -> int: ...

    def local_minute(self) -> int: ...
    def promo_is_running(self) -> bool: ...
    def order(self) -> Order | None: ...
    def product(self) -> Mapping[str, Any] | None: ...


def asks_about_order(condition: Condition) -> bool:
    """Whether a condition can only be decided with the order in hand."""
    return bool(
        condition.order_status
        or condition.order_overdue is not None
        or condition.trace_older_than_s is not None
    )


def entry_asks_about_order(entry: Entry) -> bool:
    """Whether any of an entry's answers depends on the order."""
    return "order" in entry.needs or any(
        answer.when is not None and asks_about_order(answer.when) for answer in entry.answers
    )


def holds(condition: Condition, facts: ConditionFacts) -> bool:
    """Whether every key of a condition that is set holds. Cheap facts first, the order last."""
    if condition.channel and facts.channel not in condition.channel:
        return False
    if condition.tier and facts.tier not in condition.tier:
        return False
    if condition.time is not None and not _within(condition.time, facts.local_minute()):
        return False
    if condition.promo is not None and facts.promo_is_running() is not condition.promo:
        return False
    if condition.product and not _is_product(condition.product, facts.product()):
        return False
    return not asks_about_order(condition) or _order_holds(condition, facts)


def _order_holds(condition: Condition, facts: ConditionFacts) -> bool:
    order = facts.order()
    if order is None:
        return False
    if condition.order_status and order.status.value not in condition.order_status:
        return False
    if condition.order_overdue is not None and order.is_overdue(facts.now_ms) is not condition.order_overdue:
        return False
    if condition.trace_older_than_s is not None:
        if order.trace_at_ms is None:
            return False
        return facts.now_ms - order.trace_at_ms > condition.trace_older_than_s * 1000
    return True


def _within(span: tuple[int, int], minute: int) -> bool:
    start, end = span
    return start <= minute < end if start <= end else minute >= start or minute < end


def _is_product(wanted: frozenset[str], product: Mapping[str, Any] | None) -> bool:
    if product is None:
        return False
    return str(product.get("product_id")) in wanted or str(product.get("title")) in wanted
