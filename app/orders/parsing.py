"""From an order service's JSON to ``Order``: the contract's fields and no others, checked, money as decimal strings,
times in UTC, the receiver masked. Parsing the result again gives the same.

Source: the contracts page, section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from app.core.clock import from_rfc3339, rfc3339
from app.core.pii import mask_address, mask_name, mask_phone
from app.domain.orders import Order, OrderStatus

__all__ = ["merge_order", "merge_refund", "parse_order", "parse_orders"]

MAX_ORDERS = 20
"""Orders of one buyer that are kept, the newest. Source: the contracts page, section 2."""

_MAX_TEXT = 2000
_MAX_LIST = 200
_MAX_MONEY_DIGITS = 24
_WHOLE_UNITS = frozenset({"JPY", "KRW", "VND", "CLP", "ISK", "UGX", "XAF", "XOF"})
_REFUND_KINDS = frozenset({"refund_only", "return_refund", "exchange"})
_STATUSES = frozenset(status.value for status in OrderStatus)
_TIMES = ("created_at", "paid_at", "promised_ship_at", "shipped_at", "delivered_at")


def parse_order(
    document: Mapping[str, Any],
    *,
    fetched_at_ms: int,
    buyer_id: str = "",
    platform: str = "",
    stale: bool = False,
) -> Order | None:
    """Return an order, or None when it lacks an id or its status is none of ours (a guess would misinform a buyer).

    ``buyer_id`` and ``platform`` stand in where the document names none.
    """
    order_id = _identifier(document.get("order_id"))
    status = document.get("status")
    if not order_id or not isinstance(status, str) or status not in _STATUSES:
        return None
    currency = _text(document.get("currency")) or "CNY"
    times = {name: _instant(document.get(name)) for name in _TIMES}
    shipments = [_shipment(shipment) for shipment in _objects(document.get("shipments"))]
    traces = [at_ms for shipment in shipments if (at_ms := _instant(shipment["latest_at"])) is not None]
    doc: dict[str, Any] = {
        "order_id": order_id,
        "buyer_id": _identifier(document.get("buyer_id")) or buyer_id,
        "platform": _text(document.get("platform")) or platform,
        "status": status,
        "status_text": _text(document.get("status_text")),
        **{name: rfc3339(at_ms) for name, at_ms in times.items()},
        "total": _money(document.get("total"), currency),
        "postage": _money(document.get("postage"), currency),
        "currency": currency,
        "items": [_item(item, currency) for item in _objects(document.get("items"))],
        "receiver": _receiver(document.get("receiver")),
        "shipments": shipments,
        "refunds": [_refund(refund, currency) for refund in _objects(document.get("refunds"))],
        "seller_memo": _memo(document.get("seller_memo")),
        "fetched_at": rfc3339(fetched_at_ms),
        "stale": stale,
    }
    return Order(
        order_id=order_id,
        buyer_id=doc["buyer_id"],
        status=OrderStatus(status),
        doc=doc,
        created_at_ms=times["created_at"],
        paid_at_ms=times["paid_at"],
        promised_ship_at_ms=times["promised_ship_at"],
        shipped_at_ms=times["shipped_at"],
        delivered_at_ms=times["delivered_at"],
        trace_at_ms=max(traces, default=None),
        fetched_at_ms=fetched_at_ms,
        stale=stale,
    )


def parse_orders(
    documents: Iterable[Mapping[str, Any]],
    *,
    fetched_at_ms: int,
    buyer_id: str,
    platform: str = "",
    stale: bool = False,
) -> tuple[Order, ...]:
    """Return a buyer's orders, newest first, at most 20, one of each id; somebody else's are left out."""
    orders: dict[str, Order] = {}
    for document in documents:
        order = parse_order(
            document, fetched_at_ms=fetched_at_ms, buyer_id=buyer_id, platform=platform, stale=stale
        )
        if order is not None and order.buyer_id == buyer_id:
            orders.setdefault(order.order_id, order)
    # A stable sort: orders without a time keep the service's own order, at the end.
    newest_first = sorted(orders.values(), key=lambda order: -(order.created_at_ms or 0))
    return tuple(newest_first[:MAX_ORDERS])


def merge_order(documents: Iterable[Mapping[str, Any]], order: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a buyer's order documents after an ``order.updated``, which may carry only what has changed."""
    order_id = _identifier(order.get("order_id"))
    result: list[Mapping[str, Any]] = []
    known: Mapping[str, Any] = {}
    for document in documents:
        if _identifier(document.get("order_id")) == order_id:
            known = document
        else:
            result.append(document)
    return [{**known, **order}, *result]


def merge_refund(
    documents: Iterable[Mapping[str, Any]], order_id: str, refund: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return a buyer's order documents after a ``refund.updated``; an order that isn't known stays unknown."""
    refund_id = _identifier(refund.get("refund_id"))
    result: list[Mapping[str, Any]] = []
    for document in documents:
        if _identifier(document.get("order_id")) == order_id:
            refunds = [dict(known) for known in _objects(document.get("refunds"))]
            same = next((one for one in refunds if _identifier(one.get("refund_id")) == refund_id), None)
            if same is None:
                refunds.append(dict(refund))
            else:
                same.update(refund)
            result.append({**document, "refunds": refunds})
        else:
            result.append(document)
    return result


def _item(item: Mapping[str, Any], currency: str) -> dict[str, Any]:
    quantity = item.get("quantity")
    return {
        "product_id": _identifier(item.get("product_id")) or None,
        "title": _text(item.get("title")),
        "sku": _text(item.get("sku")),
        "quantity": quantity if type(quantity) is int and quantity > 0 else 1,
        "price": _money(item.get("price"), currency),
        "image_url": _link(item.get("image_url")),
    }


def _shipment(shipment: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "carrier": _text(shipment.get("carrier")),
        "tracking_no": _identifier(shipment.get("tracking_no")),
        "status": _text(shipment.get("status")),
        "latest": _text(shipment.get("latest")),
        "latest_at": _time(shipment.get("latest_at")),
        "eta": _expected(shipment.get("eta")),
    }


def _refund(refund: Mapping[str, Any], currency: str) -> dict[str, Any]:
    kind = refund.get("kind")
    return {
        "refund_id": _identifier(refund.get("refund_id")),
        "kind": kind if isinstance(kind, str) and kind in _REFUND_KINDS else None,
        "status": _text(refund.get("status")),
        "reason": _text(refund.get("reason")),
        "amount": _money(refund.get("amount"), currency),
        "created_at": _time(refund.get("created_at")),
        "eta": _expected(refund.get("eta")),
    }


def _receiver(value: Any) -> dict[str, Any]:
    receiver = _object(value)
    masks: dict[str, Callable[[str], str]] = {"name": mask_name, "phone": mask_phone, "address": mask_address}
    return {
        name: mask(_text(receiver.get(name)) or _identifier(receiver.get(name)))
        for name, mask in masks.items()
    }


def _memo(value: Any) -> dict[str, Any]:
    memo = _object(value)
    flag = memo.get("flag")
    return {"flag": flag if isinstance(flag, (str, int)) else None, "text": _text(memo.get("text"))}


def _money(value: Any, currency: str) -> str | None:
    """Return an amount as a decimal string; a number gets the currency's usual decimals, a text keeps its own."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        amount = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    if not amount.is_finite() or abs(amount.adjusted()) > _MAX_MONEY_DIGITS:
        return None
    if not isinstance(value, str):
        # A number has lost its zeros, or gained a binary fraction's digits.
        amount = amount.quantize(Decimal(1) if currency in _WHOLE_UNITS else Decimal("0.01"))
    return format(amount, "f")


def _expected(value: Any) -> str | None:
    """Return when something is expected: an instant in UTC, or a bare date or words as they came."""
    text = _text(value)
    return (_time(text) if "T" in text else text) or None


def _time(value: Any) -> str | None:
    return rfc3339(_instant(value))


def _instant(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        return from_rfc3339(value)
    except (ValueError, OverflowError):
        return None


def _link(value: Any) -> str | None:
    text = _text(value)
    return text if text.startswith(("https://", "http://")) and text.isprintable() else None


def _identifier(value: Any) -> str:
    if isinstance(value, str):
        return _text(value).strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _text(value: Any) -> str:
    return value.replace("\x00", "")[:_MAX_TEXT] if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        return []
    entries = cast("list[Any]", value)[:_MAX_LIST]
    return [cast("Mapping[str, Any]", entry) for entry in entries if isinstance(entry, Mapping)]
