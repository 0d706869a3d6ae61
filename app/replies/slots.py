"""The values a template may name, and where each comes from.

A slot is filled only by what the shop has set or what the order service says; ``None``, an empty text and an empty
list all count as unknown. Values of another person, or unmasked personal data, never become a slot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

__all__ = [
    "KNOWN_SLOTS",
    "Facts",
    "LazyTable",
    "Listing",
    "Table",
    "clean",
    "is_known_slot",
    "mask_phones",
    "order_slots",
]

KNOWN_SLOTS: frozenset[str] = frozenset(
    """
    agent.no buyer.nickname buyer.orders buyer.points buyer.tier
    case.cause case.id case.kind case.next_reply_at case.status choice.title courier.quote invoice.status
    order.closed_at order.completed_at order.created_at order.currency order.delivered_at order.fetched_at order.items
    order.items[0].price order.items[0].product_id order.items[0].quantity order.items[0].sku order.items[0].title
    order.order_id order.paid_at order.platform order.postage order.promised_ship_at order.receiver.address
    order.receiver.name order.receiver.phone order.refunds order.refunds[0].amount order.refunds[0].created_at
    order.refunds[0].eta order.refunds[0].kind order.refunds[0].reason order.refunds[0].refund_id
    order.refunds[0].status order.shipments order.shipments[0].carrier order.shipments[0].eta
    order.shipments[0].latest order.shipments[0].latest_at order.shipments[0].status order.shipments[0].tracking_no
    order.shipped_at order.status order.status_text order.total
    product.authorization product.batch_expiry product.care product.category product.color_note product.colors
    product.compare product.features product.fit_notes product.images product.ingredients product.material
    product.origin product.package_list product.presale_ship_date product.price product.product_id
    product.recommend_list product.season product.shelf_life product.size_chart product.sizes product.smell_note
    product.status product.thickness product.title product.usage product.warranty_months
    promo.code_rule promo.coupon_url promo.end promo.gift promo.limit promo.name promo.rule promo.stack_rule
    promo.start promo.vip_rule queue.position return.address return.received_at return.window_days
    shop.bot_name shop.bulk_qty shop.courier shop.courier_options shop.eta_days shop.gift shop.gift_wrap shop.hours
    shop.name shop.new_arrival_date shop.overseas shop.pay_methods shop.postage shop.postage_rule
    shop.quality_window_hours shop.reach_table shop.return_window_days shop.ship_cutoff shop.ship_within_hours
    shop.warehouse_city stock.qty stock.restock_date stock.state warranty.months
    """.split()
)
"""Every slot an answer may use, with ``[0]`` standing for any position in a list."""

_INDEX = re.compile(r"\[\d+\]")
_PHONE = re.compile(r"(?<!\d)(1[3-9]\d)\d{4}(\d{4})(?!\d)")
_LIST_ROOTS = ("order.items", "order.shipments", "order.refunds")

ORDER_STATUS_LABELS: Mapping[str, str] = {
    "pending_payment": "待付款",
    "paid": "已付款，待发货",
    "preparing": "备货中",
    "shipped": "已发货",
    "delivered": "已签收",
    "completed": "已完成",
    "closed": "已关闭",
}
_REFUND_LABELS: Mapping[str, str] = {
    "requested": "已提交，待审核",
    "pending": "待处理",
    "processing": "处理中",
    "in_progress": "处理中",
    "approved": "已同意，退款处理中",
    "refunding": "退款中",
    "succeeded": "已退款",
    "success": "已退款",
    "refunded": "已退款",
    "completed": "已完成",
    "rejected": "未通过",
    "closed": "已关闭",
    "waiting_buyer": "等待您处理",
}
_TRANSIT_LABELS: Mapping[str, str] = {
    "picked_up": "已揽收",
    "in_transit": "运输中",
    "out_for_delivery": "派送中",
    "signed": "已签收",
    "delivered": "已签收",
    "returned": "已退回",
}


def is_known_slot(name: str) -> bool:
    """Whether a slot path is one an answer may use; list positions count as ``[0]``.

    Attributes of a shop's own (``shop.*`` and ``product.*`` beyond the list) are not known: a typing error there
    would only be found by a buyer.
    """
    plain = _INDEX.sub("[0]", name)
    return plain in KNOWN_SLOTS or plain in {f"{root}[0]" for root in _LIST_ROOTS}


def mask_phones(text: str) -> str:
    """Return the text with the middle of every mobile number starred out."""
    return _PHONE.sub(r"\1****\2", text)


class Listing(tuple[Any, ...]):
    """A list of values that reads as 'a、b、c' in a sentence."""

    __slots__ = ()

    def __str__(self) -> str:
        return "、".join(str(item) for item in self)


class Table(dict[str, Any]):
    """A small table that reads as 'key value、key value' in a sentence; an unknown key raises KeyError."""

    __slots__ = ()

    def __str__(self) -> str:
        return "、".join(f"{key}{value}" for key, value in self.items())


def clean(value: Any) -> Any:
    """Return a JSON value with everything empty left out, lists and objects made readable; None when nothing is left."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, Mapping):
        table = Table()
        for key, item in cast("Mapping[object, object]", value).items():
            if (kept := clean(item)) is not None:
                table[str(key)] = kept
        return table or None
    if isinstance(value, Sequence):
        kept_items = [kept for item in cast("Sequence[object]", value) if (kept := clean(item)) is not None]
        return Listing(kept_items) or None
    return value


class LazyTable(Mapping[str, Any]):
    """A large table of which a sentence names one or two values: each is cleaned when it is named.

    ``over`` goes before the table's own values; a None in it hides them.
    """

    __slots__ = ("_over", "_table")

    def __init__(self, table: Mapping[str, Any], over: Mapping[str, Any]) -> None:
        self._table = table
        self._over = over

    def __getitem__(self, name: str) -> Any:
        value = clean(self._over[name] if name in self._over else self._table[name])
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter({**self._table, **self._over})

    def __len__(self) -> int:
        return len({**self._table, **self._over})


class Facts(Mapping[str, Any]):
    """What a template sees: each root (``shop``, ``order`` …) is built the first time it is named.

    A root without any value is not there at all, so that naming it counts as a missing fact.
    """

    __slots__ = ("_build", "_built", "_roots")

    def __init__(self, build: Callable[[str], Mapping[str, Any] | None], roots: Collection[str]) -> None:
        """Take what builds a root (a cleaned mapping, None when nothing is known), and the names of all roots."""
        self._build = build
        self._roots = roots
        self._built: dict[str, Mapping[str, Any]] = {}

    def __getitem__(self, root: str) -> Mapping[str, Any]:
        built = self._built.get(root)
        if built is None:
            built = self._build(root)
            if built is None:
                raise KeyError(root)
            self._built[root] = built
        return built

    def __iter__(self) -> Iterator[str]:
        return iter(self._roots)

    def __len__(self) -> int:
        return len(self._roots)


def order_slots(doc: Mapping[str, Any]) -> Table | None:
    """Return an order's slots: the contract's shape, cleaned, status words in Chinese, personal data masked."""
    cleaned = clean(doc)
    if cleaned is None:
        return None
    order = cast("Table", cleaned)
    order.pop("seller_memo", None)
    order.pop("buyer_id", None)
    status = str(order.get("status", ""))
    text = str(order.get("status_text", ""))
    if not _has_chinese(text):
        order["status_text"] = ORDER_STATUS_LABELS.get(status, text or status)
    for shipment in _tables(order.get("shipments")):
        if "latest" in shipment:
            shipment["latest"] = mask_phones(str(shipment["latest"])).rstrip("。.；;！!")
        _label(shipment, _TRANSIT_LABELS)
    for refund in _tables(order.get("refunds")):
        _label(refund, _REFUND_LABELS)
    receiver = order.get("receiver")
    if isinstance(receiver, Table):
        _mask_receiver(receiver)
    return order


def _tables(value: object) -> list[Table]:
    if not isinstance(value, Listing):
        return []
    return [item for item in value if isinstance(item, Table)]


def _label(table: Table, labels: Mapping[str, str]) -> None:
    status = str(table.get("status", ""))
    if status and not _has_chinese(status):
        if status in labels:
            table["status"] = labels[status]
        else:
            # A code we have no word for is no answer to a buyer.
            del table["status"]


def _mask_receiver(receiver: Table) -> None:
    if "phone" in receiver:
        digits = str(receiver["phone"])
        receiver["phone"] = digits if "*" in digits else mask_tail(digits)
    if "name" in receiver and "*" not in str(receiver["name"]):
        receiver["name"] = str(receiver["name"])[:1] + "**"
    if "address" in receiver and "*" not in str(receiver["address"]):
        receiver["address"] = str(receiver["address"])[:6] + "***"


def mask_tail(number: str) -> str:
    """Return a phone number with only its first three and last four characters left."""
    masked = mask_phones(number)
    if masked != number or len(number) < 8:
        return masked if masked != number else number[:1] + "*" * max(0, len(number) - 1)
    return f"{number[:3]}****{number[-4:]}"


def _has_chinese(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)
