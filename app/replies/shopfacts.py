"""Facts about the shop: running promotion, the product and stock asked about, hours, the case in question.

Everything comes from the shop's own settings (the ``shop`` object) and open cases; the buyer's words only choose
between what is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, cast
from zoneinfo import ZoneInfo

from app.core.clock import from_rfc3339, to_datetime
from app.domain.shops import HoursSpan, ShopPolicy
from app.replies.slots import LazyTable, Table, clean

__all__ = [
    "case_slots",
    "find_product",
    "hours_text",
    "invoice_slots",
    "is_on_duty",
    "local_minute",
    "product_slots",
    "promo_slots",
    "return_slots",
    "running_promo",
    "shop_slots",
    "stock_slots",
    "warranty_slots",
]

_PROMO_EXTRAS = ("gift", "coupon_url", "code_rule", "stack_rule", "limit", "vip_rule")
_GROUP_LABELS = {"presale": "售前", "aftersale": "售后", "vip": "VIP专属", "supervisor": "主管"}
_GROUP_LABELS_EN = {
    "presale": "pre-sales",
    "aftersale": "after-sales",
    "vip": "VIP",
    "supervisor": "supervisor",
}
_CASE_LABELS = {
    "new": "已登记",
    "collecting": "资料收集中",
    "pending_approval": "审核中",
    "in_progress": "处理中",
    "waiting_buyer": "等待您补充",
    "waiting_department": "相关部门核实中",
    "resolved": "已处理",
    "closed": "已结束",
    "reopened": "重新处理中",
}
_RETURN_KINDS = frozenset({"return", "exchange"})
_APPROVED = frozenset(
    {"approved", "return_instructed", "buyer_shipped", "received", "inspected", "in_progress"}
)
_SIZE = re.compile(r"(?<![A-Za-z0-9])(\d?X{0,4}[SML]|XS|\d{2}(?=码))(?![A-Za-z0-9])", re.IGNORECASE)
_LATIN = re.compile(r"[A-Za-z0-9]+")
_CJK = re.compile(r"[\u4e00-\u9fff]+")
_FUZZY_CATALOGUE = 500
"""Up to this many products a part of a title is enough to name one; more would cost too much per message."""


@lru_cache(maxsize=64)
def _zone(tz: str) -> ZoneInfo:
    return ZoneInfo(tz)


def local_time(shop: ShopPolicy, now_ms: int) -> datetime:
    """Return the shop's local date and time."""
    return to_datetime(now_ms).astimezone(_zone(shop.tz))


def local_minute(shop: ShopPolicy, now_ms: int) -> int:
    """Return the minute of the shop's local day, 0–1439."""
    at = local_time(shop, now_ms)
    return at.hour * 60 + at.minute


def is_on_duty(shop: ShopPolicy, group: str, now_ms: int) -> bool:
    """Whether a group's working hours hold; a group without hours is always on duty."""
    spans = shop.hours.get(group)
    if not spans:
        return True
    minute = local_minute(shop, now_ms)
    return any(span.holds(minute) for span in spans)


def hours_text(shop: ShopPolicy, language: str = "zh") -> str | None:
    """Return the working hours in words ('售前 08:30-01:00，售后 09:00-23:30'); None when always open."""
    if not shop.hours:
        return None
    labels = _GROUP_LABELS if language == "zh" else _GROUP_LABELS_EN
    shown: dict[str, list[str]] = {}
    for group, spans in shop.hours.items():
        if spans:
            shown.setdefault(_spans_text(spans), []).append(labels.get(group, group))
    public = [group for group in ("presale", "aftersale") if shop.hours.get(group)]
    if not shown:
        return None
    if len(shown) == 1:
        return next(iter(shown))
    if public:
        parts = {group: _spans_text(shop.hours[group]) for group in public}
        if len(set(parts.values())) == 1:
            return next(iter(parts.values()))
        return ("，" if language == "zh" else ", ").join(
            f"{labels[group]} {text}" for group, text in parts.items()
        )
    return ("，" if language == "zh" else ", ").join(
        f"{'、'.join(names)} {text}" for text, names in shown.items()
    )


def _spans_text(spans: Sequence[HoursSpan]) -> str:
    return "、".join(str(span) for span in spans)


def shop_slots(shop: ShopPolicy, language: str = "zh", hours: str | None = None) -> LazyTable:
    """Return ``shop.*``; ``hours`` instead of all groups' hours, where only one group is meant."""
    return LazyTable(
        shop.facts,
        {
            "catalog": None,
            "promos": None,
            "name": shop.name,
            "bot_name": shop.bot_name,
            "bulk_qty": shop.bulk_qty,
            "return_window_days": shop.return_window_days,
            "quality_window_hours": shop.quality_window_hours,
            "hours": hours or (hours_text(shop, language) if shop.hours else None),
        },
    )


def running_promo(shop: ShopPolicy, now_ms: int) -> Mapping[str, Any] | None:
    """Return the promotion that runs now (of several, the one that ends first), or None."""
    running: list[tuple[int, Mapping[str, Any]]] = []
    for promo in _objects(shop.facts.get("promos")):
        start = _instant(promo.get("start"), shop, end_of_day=False)
        end = _instant(promo.get("end"), shop, end_of_day=True)
        if (start is None or start <= now_ms) and (end is None or now_ms <= end):
            running.append((end if end is not None else 1 << 62, promo))
    return min(running, key=lambda pair: pair[0])[1] if running else None


def promo_slots(shop: ShopPolicy, now_ms: int) -> Table | None:
    """Return ``promo.*``: the running promotion, and the standing rules about gifts, coupons and limits."""
    slots = Table()
    for name in _PROMO_EXTRAS:
        if (value := clean(shop.facts.get(name))) is not None:
            slots[name] = value
    if (promo := running_promo(shop, now_ms)) is not None:
        slots.update(cast("Table", clean(promo) or Table()))
    return slots or None


def find_product(shop: ShopPolicy, product_id: str | None, text: str) -> Mapping[str, Any] | None:
    """Return the catalogue's product with this id, or else the one product the text names, or None."""
    catalogue = _objects(shop.facts.get("catalog"))
    if product_id is not None:
        for product in catalogue:
            if str(product.get("product_id")) == product_id:
                return product
    if not text:
        return None
    best: list[Mapping[str, Any]] = []
    best_length = 1
    for product in catalogue:
        title = str(product.get("title") or "")
        if len(title) < 2:
            continue
        if len(catalogue) <= _FUZZY_CATALOGUE:
            length = _longest_part(title, text)
        else:
            length = len(title) if title in text else 0
        if length > best_length:
            best, best_length = [product], length
        elif length == best_length and length > 1:
            best.append(product)
    return best[0] if len(best) == 1 else None


def _longest_part(title: str, text: str) -> int:
    longest = 0
    size = len(title)
    for start in range(size):
        for stop in range(start + max(2, longest + 1), size + 1):
            if title[start:stop] not in text:
                break
            longest = stop - start
    return longest


def only_product(shop: ShopPolicy) -> Mapping[str, Any] | None:
    """Return the shop's product when it sells exactly one."""
    catalogue = _objects(shop.facts.get("catalog"))
    return catalogue[0] if len(catalogue) == 1 else None


def product_slots(product: Mapping[str, Any] | None) -> LazyTable | None:
    """Return ``product.*`` of a catalogue product."""
    return LazyTable(product, {"stock": None}) if product is not None else None


def stock_slots(product: Mapping[str, Any] | None, text: str) -> Table | None:
    """Return ``stock.*`` of a product for the colour and size the text names.

    A size that the stock list doesn't have makes the quantity unknown: better asked about than guessed.
    """
    if product is None:
        return None
    slots = Table()
    if (restock := clean(product.get("restock_date"))) is not None:
        slots["restock_date"] = restock
    quantity = _quantity(product.get("stock"), text)
    if quantity is not None:
        slots["qty"] = quantity
        slots["state"] = "有货" if quantity > 0 else "暂时缺货"
    return slots or None


def _quantity(stock: object, text: str) -> int | None:
    if isinstance(stock, bool) or stock is None:
        return None
    if isinstance(stock, int | float):
        return int(stock)
    if not isinstance(stock, Mapping):
        return None
    rows = {
        str(key): int(value)
        for key, value in cast("Mapping[object, object]", stock).items()
        if isinstance(value, int | float)
    }
    if not rows:
        return None
    latin = {token.upper() for token in _LATIN.findall(text)}
    scores = {key: _key_score(key, text, latin) for key in rows}
    full = [key for key, (hits, parts) in scores.items() if parts and hits == parts]
    if full:
        widest = max(scores[key][1] for key in full)
        return sum(rows[key] for key in full if scores[key][1] == widest)
    partial = [key for key, (hits, _) in scores.items() if hits]
    known = {token.upper() for key in rows for token in _LATIN.findall(key)}
    if any(size.upper() not in known for size in _SIZE.findall(text)):
        return None
    return sum(rows[key] for key in partial) if partial else sum(rows.values())


def _key_score(key: str, text: str, latin: set[str]) -> tuple[int, int]:
    hits = parts = 0
    for token in _LATIN.findall(key):
        parts += 1
        hits += token.upper() in latin
    for token in _CJK.findall(key):
        parts += 1
        hits += token in text or (token.endswith("色") and len(token) > 1 and token[:-1] in text)
    return hits, parts


def warranty_slots(shop: ShopPolicy, product: Mapping[str, Any] | None) -> Table | None:
    """Return ``warranty.*``: the product's own months, else the shop's."""
    months = clean((product or {}).get("warranty_months")) or clean(shop.facts.get("warranty_months"))
    return Table(months=months) if months is not None else None


def return_slots(shop: ShopPolicy, cases: Sequence[Mapping[str, object]]) -> Table:
    """Return ``return.*``; the address only when a return has been approved, since parcels follow it."""
    slots = Table(window_days=shop.return_window_days)
    returns = [case for case in cases if case.get("kind") in _RETURN_KINDS]
    if any(str(case.get("status")) in _APPROVED for case in returns) and (
        address := clean(shop.facts.get("return_address"))
    ):
        slots["address"] = address
    for case in returns:
        if (received := clean(_fields(case).get("received_at"))) is not None:
            slots["received_at"] = received
    return slots


def case_slots(cases: Sequence[Mapping[str, object]], order_id: str | None) -> Table | None:
    """Return ``case.*`` of the open case about this order, else of the newest one (the last in the list)."""
    if not cases:
        return None
    about = [case for case in cases if order_id and _fields(case).get("order_id") == order_id] or list(cases)
    case = about[-1]
    fields = _fields(case)
    status = str(case.get("status") or "")
    slots = {
        "id": case.get("case_id") or case.get("id"),
        "kind": case.get("kind"),
        "cause": fields.get("cause"),
        "status": case.get("status_text") or _CASE_LABELS.get(status),
        "next_reply_at": case.get("next_reply_at"),
    }
    return cast("Table | None", clean(slots))


def invoice_slots(cases: Sequence[Mapping[str, object]]) -> Table | None:
    """Return ``invoice.*``: the state of the buyer's invoice case."""
    for case in reversed(cases):
        if case.get("kind") == "invoice":
            status = case.get("status_text") or _CASE_LABELS.get(str(case.get("status") or ""))
            return cast("Table | None", clean({"status": status}))
    return None


def _fields(case: Mapping[str, object]) -> Mapping[str, object]:
    fields = case.get("fields")
    return cast("Mapping[str, object]", fields) if isinstance(fields, Mapping) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [
        cast("Mapping[str, Any]", item)
        for item in cast("Sequence[object]", value)
        if isinstance(item, Mapping)
    ]


def _instant(value: object, shop: ShopPolicy, *, end_of_day: bool) -> int | None:
    """Read a date or an instant, as milliseconds UTC; a bare date means the shop's own day."""
    if value is None or value == "":
        return None
    text = str(value)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return from_rfc3339(text)
        if len(text) == 10 and end_of_day:
            moment = moment.replace(hour=23, minute=59, second=59)
        return int(moment.replace(tzinfo=_zone(shop.tz)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
