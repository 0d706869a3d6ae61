"""Orders as the sandbox's order service tells them: the contract's shape, every time relative to now.

Source: the contracts page, section 5; the domain rules, sections 4.4, 5.6 and 5.7, for what makes one late or stale.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta, timezone
from typing import Any

from app.core.clock import rfc3339, to_datetime
from app.sandbox.buyers import Buyer, OrderKind
from app.sandbox.catalogue import Product, Shop

__all__ = ["Document", "make_order", "make_orders"]

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_DAY_MS = 24 * _HOUR_MS
_SHOP_TIME = timezone(timedelta(hours=8))

Document = dict[str, Any]


def make_orders(shop: Shop, buyer: Buyer, *, buyer_id: str, now_ms: int) -> list[Document]:
    """Return a buyer's orders at a shop, newest first, as they stand at ``now_ms``."""
    taken: set[str] = set()
    orders: list[Document] = []
    for place, kind in enumerate(buyer.orders):
        seed = f"{shop.id}/{buyer.key}/{place}"
        product = shop.products[(zlib.crc32(buyer.key.encode()) + place) % len(shop.products)]
        order = make_order(
            shop,
            buyer,
            kind,
            product,
            buyer_id=buyer_id,
            now_ms=now_ms - place * 7 * _MINUTE_MS,
            seed=seed,
            taken=taken,
        )
        orders.append(order)
    return sorted(orders, key=lambda order: order["created_at"], reverse=True)


def make_order(
    shop: Shop,
    buyer: Buyer,
    kind: OrderKind,
    product: Product,
    *,
    buyer_id: str,
    now_ms: int,
    seed: str,
    taken: set[str],
) -> Document:
    """Return one order in the situation ``kind``.

    Args:
        shop: sells it.
        buyer: gets it.
        kind: its situation.
        product: the one item in it.
        buyer_id: the buyer's id on the platform.
        now_ms: what its times are relative to.
        seed: two texts that differ give different order numbers.
        taken: order numbers that are taken; the new one is added.
    """
    changes = _SITUATIONS[kind](shop, buyer, now_ms)
    created_ms = int(changes.pop("created_ms"))
    order: Document = {
        "order_id": _order_id(created_ms, seed, taken),
        "buyer_id": buyer_id,
        "platform": "sandbox",
        "created_at": rfc3339(created_ms),
        "paid_at": None,
        "promised_ship_at": None,
        "shipped_at": None,
        "delivered_at": None,
        "total": f"{product.price:.2f}",
        "postage": "0.00",
        "currency": "CNY",
        "items": [
            {
                "product_id": product.id,
                "title": product.title,
                "sku": product.sku,
                "quantity": 1,
                "price": f"{product.price:.2f}",
                "image_url": None,
            }
        ],
        "receiver": dict(buyer.receiver),
        "shipments": [],
        "refunds": [],
        "seller_memo": {"flag": None, "text": ""},
    }
    order.update(changes)
    for refund in order["refunds"]:
        refund["amount"] = order["total"]
        refund["refund_id"] = f"R{order['order_id']}"
    for shipment in order["shipments"]:
        shipment["tracking_no"] = (
            f"{_CARRIER_CODES.get(shop.courier, 'YT')}{zlib.crc32(seed.encode()):010d}88"
        )
    return order


_CARRIER_CODES: Mapping[str, str] = {"中通快递": "ZT", "圆通速递": "YT"}


def _order_id(created_ms: int, seed: str, taken: set[str]) -> str:
    day = to_datetime(created_ms).astimezone(_SHOP_TIME).strftime("%y%m%d")
    number = zlib.crc32(seed.encode())
    while (order_id := f"{day}{1000 + number % 9000}") in taken:
        number += 1
    taken.add(order_id)
    return order_id


def _pending(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    return {"status": "pending_payment", "status_text": "待付款", "created_ms": now_ms - 2 * _MINUTE_MS}


def _paid(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    return _paid_at(shop, now_ms - 5 * _HOUR_MS)


def _paid_at(shop: Shop, paid_ms: int) -> Document:
    return {
        "status": "paid",
        "status_text": "已付款，待发货",
        "created_ms": paid_ms - 2 * _MINUTE_MS,
        "paid_at": rfc3339(paid_ms),
        "promised_ship_at": rfc3339(paid_ms + shop.ship_within_hours * _HOUR_MS),
    }


def _overdue(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    return _paid_at(shop, now_ms - (shop.ship_within_hours + 6) * _HOUR_MS)


def _preparing(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    return {**_paid_at(shop, now_ms - 14 * _HOUR_MS), "status": "preparing", "status_text": "仓库备货中"}


def _shipped(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    trace = f"快件已到达【{buyer.city}转运中心】，正发往派送网点"
    return _on_its_way(shop, now_ms, shipped_hours=27, trace=trace, trace_hours=3, eta_hours=30)


def _stale(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    trace = f"快件离开【{shop.warehouse_city}转运中心】，发往{buyer.city}"
    return _on_its_way(shop, now_ms, shipped_hours=78, trace=trace, trace_hours=61, eta_hours=None)


def _on_its_way(
    shop: Shop, now_ms: int, *, shipped_hours: int, trace: str, trace_hours: int, eta_hours: int | None
) -> Document:
    shipped_ms = now_ms - shipped_hours * _HOUR_MS
    eta = None if eta_hours is None else to_datetime(now_ms + eta_hours * _HOUR_MS).astimezone(_SHOP_TIME)
    return {
        **_paid_at(shop, shipped_ms - 16 * _HOUR_MS),
        "status": "shipped",
        "status_text": "运输中",
        "shipped_at": rfc3339(shipped_ms),
        "shipments": [
            {
                "carrier": shop.courier,
                "status": "in_transit",
                "latest": trace,
                "latest_at": rfc3339(now_ms - trace_hours * _HOUR_MS),
                "eta": None if eta is None else eta.strftime("%Y-%m-%d"),
            }
        ],
    }


def _delivered(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    return _delivered_at(shop, now_ms - 5 * _HOUR_MS)


def _delivered_at(shop: Shop, delivered_ms: int) -> Document:
    return {
        **_on_its_way(
            shop, delivered_ms, shipped_hours=50, trace="已签收，签收人：本人", trace_hours=0, eta_hours=None
        ),
        "status": "delivered",
        "status_text": "已签收",
        "delivered_at": rfc3339(delivered_ms),
    }


def _completed(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    return {
        **_delivered_at(shop, now_ms - 12 * _DAY_MS),
        "status": "completed",
        "status_text": "交易完成",
    }


def _closed(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    return {"status": "closed", "status_text": "交易关闭（超时未付款）", "created_ms": now_ms - 9 * _DAY_MS}


def _refund(now_ms: int, status: str, reason: str, *, eta_days: int | None) -> list[Document]:
    eta = None if eta_days is None else to_datetime(now_ms + eta_days * _DAY_MS).astimezone(_SHOP_TIME)
    return [
        {
            "kind": "return_refund",
            "status": status,
            "reason": reason,
            "created_at": rfc3339(now_ms - 30 * _HOUR_MS),
            "eta": None if eta is None else eta.strftime("%Y-%m-%d"),
        }
    ]


def _refunding(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    refunds = _refund(now_ms, "processing", "尺寸不合适", eta_days=2)
    return {**_delivered_at(shop, now_ms - 4 * _DAY_MS), "refunds": refunds}


def _refund_approved(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    refunds = _refund(now_ms, "approved", "颜色和想的不一样", eta_days=3)
    return {**_delivered_at(shop, now_ms - 5 * _DAY_MS), "refunds": refunds}


def _refund_rejected(shop: Shop, buyer: Buyer, now_ms: int) -> Document:
    refunds = _refund(now_ms, "rejected", "使用后不想要了", eta_days=None)
    return {**_delivered_at(shop, now_ms - 8 * _DAY_MS), "refunds": refunds}


_SITUATIONS: Mapping[OrderKind, Callable[[Shop, Buyer, int], Document]] = {
    OrderKind.PENDING: _pending,
    OrderKind.PAID: _paid,
    OrderKind.OVERDUE: _overdue,
    OrderKind.PREPARING: _preparing,
    OrderKind.SHIPPED: _shipped,
    OrderKind.STALE: _stale,
    OrderKind.DELIVERED: _delivered,
    OrderKind.COMPLETED: _completed,
    OrderKind.CLOSED: _closed,
    OrderKind.REFUNDING: _refunding,
    OrderKind.REFUND_APPROVED: _refund_approved,
    OrderKind.REFUND_REJECTED: _refund_rejected,
}
