"""Which order a buyer means: numbers typed into a message, cards, ordinals, the item's name, or the only active one.

An order that the platform attached is trusted. A number that the buyer typed counts only when it is in the buyer's
own list. Source: the contracts page, section 2 (orders), and the domain rules, section 14.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.orders import OPEN_STATUSES, SHIPPED_STATUSES, Order, OrderLookup, OrderStatus, OrderView
from app.replies.topics import AFTERSALE_PREFIXES, REFUND_TOPICS

__all__ = ["OrderPick", "OrderProblem", "choose_order", "option_line", "ordinal", "typed_order_ids"]

_MOBILE = re.compile(r"1[3-9]\d{9}")
_TRACKING = re.compile(r"[A-Za-z]{2,4}\d{8,}")
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9\-.])([A-Za-z]{1,6}[-_]\d{1,20}(?:-\d{1,12})*|\d{6,32}(?:-\d{1,12})?)(?![A-Za-z0-9.%])"
)
_DIGIT = re.compile(r"\d")
_DATE = re.compile(r"20\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_LABELLED = re.compile(r"订单|單號|单号|编号|order|#", re.IGNORECASE)
_ORDINAL = re.compile(
    r"^(?:我?(?:选|要|问|说)?的?是?|就)?第?([1-9]|[一二三四五])(?:个|单|笔|条|项|种|号)?(?:订单|的|吧|呢|呀|啊|那个)*[。.!！~～]*$"
)
_ORDINAL_EN = {"first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "fifth": 5}
_CHINESE_DIGITS = {"一": 1, "二": 2, "三": 3, "四": 4, "五": 5}
_LAST = re.compile(r"^(?:就|选|要)?(?:最后|最下面)(?:一)?(?:个|单|笔|条)(?:吧|的|呢)*$")
_SHORT_TITLE = 12
MAX_OPTIONS = 5
"""Orders listed in one question. Source: the domain rules, section 14."""


class OrderProblem(StrEnum):
    """Why no order could be chosen."""

    SEVERAL = "several"
    NONE = "none"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPick:
    """The order a turn is about, or why there is none and which ones it might be (newest first)."""

    order: Order | None = None
    problem: OrderProblem | None = None
    options: tuple[Order, ...] = ()


def typed_order_ids(text: str) -> tuple[str, ...]:
    """Return what looks like order numbers in a text, in order: 6 or more digits, or letters with a dash and digits.

    Mobile numbers and tracking numbers (letters glued to digits) are none; a date only when a word says 'order'.
    """
    if _DIGIT.search(text) is None:
        return ()
    found: list[str] = []
    for match in _NUMBER.finditer(text):
        number = match.group(1)
        if _MOBILE.fullmatch(number) or _TRACKING.fullmatch(number):
            continue
        if _DATE.fullmatch(number) and not _LABELLED.search(text):
            continue
        if number not in found:
            found.append(number)
    return tuple(found[:4])


def ordinal(text: str, count: int) -> int | None:
    """Return the position (from 0) that '1', '第二个', 'the second one' or '最后一个' picks out of ``count``."""
    plain = text.strip()
    if not plain or len(plain) > 24:
        return None
    if match := _ORDINAL.match(plain):
        digit = match.group(1)
        position = _CHINESE_DIGITS.get(digit) or int(digit)
    elif _LAST.match(plain):
        position = count
    else:
        words = plain.lower().strip(".!? ").removeprefix("the ").removesuffix(" one").split()
        position = _ORDINAL_EN.get(words[0], 0) if len(words) == 1 else 0
    return position - 1 if 1 <= position <= count else None


def choose_order(
    view: OrderView,
    *,
    text: str,
    remembered: str | None,
    topic: str | None,
    typed_counts: bool = True,
) -> OrderPick:
    """Choose the order a question is about.

    In turn: the one the platform attached, the one whose number was typed, the one this session is about, the one
    whose item is named, the only active one. ``topic`` narrows the choice where it must (a fault is about what was
    delivered). ``typed_counts`` False: a number that isn't the buyer's is taken for something else (a tax number).
    """
    if view.attached is not None:
        return OrderPick(order=view.attached)
    if view.asked is not None:
        return OrderPick(order=view.asked)
    own = {order.order_id: order for order in view.orders}
    for number in typed_order_ids(text):
        if number in own:
            return OrderPick(order=own[number])
        if matching := [
            order for order in view.orders if len(number) >= 6 and order.order_id.endswith(number)
        ]:
            return OrderPick(order=matching[0])
    if view.lookup is OrderLookup.NOT_FOUND and typed_counts:
        return OrderPick(problem=OrderProblem.NOT_FOUND, options=view.orders)
    if remembered is not None and remembered in own:
        return OrderPick(order=own[remembered])
    if not view.orders:
        problem = {
            OrderLookup.UNAVAILABLE: OrderProblem.UNAVAILABLE,
            OrderLookup.UNSUPPORTED: OrderProblem.UNSUPPORTED,
        }.get(view.lookup, OrderProblem.NONE)
        return OrderPick(problem=problem)
    return _among(view.orders, text, topic)


def _among(orders: tuple[Order, ...], text: str, topic: str | None) -> OrderPick:
    if len(orders) == 1:
        return OrderPick(order=orders[0])
    named = _named(orders, text)
    if len(named) == 1:
        return OrderPick(order=named[0])
    candidates = _fitting(named or orders, topic)
    if len(candidates) == 1:
        return OrderPick(order=candidates[0])
    return OrderPick(problem=OrderProblem.SEVERAL, options=candidates[:MAX_OPTIONS])


def _fitting(orders: tuple[Order, ...], topic: str | None) -> tuple[Order, ...]:
    if topic in REFUND_TOPICS and (refunding := tuple(order for order in orders if order.doc.get("refunds"))):
        return refunding
    if topic is not None and topic.startswith(AFTERSALE_PREFIXES):
        received = tuple(
            order
            for order in orders
            if order.status in SHIPPED_STATUSES and order.status is not OrderStatus.SHIPPED
        )
        if received:
            return received
    active = tuple(order for order in orders if order.status in OPEN_STATUSES)
    if active:
        return active
    return tuple(order for order in orders if order.status is not OrderStatus.CLOSED) or orders


def _named(orders: Sequence[Order], text: str) -> tuple[Order, ...]:
    """Return the orders whose item the text names (by the end of its title, two characters or more)."""
    best: list[Order] = []
    best_length = 1
    for order in orders:
        length = 0
        for item in order.doc.get("items") or ():
            title = str(item.get("title") or "") if hasattr(item, "get") else ""
            for size in range(len(title), 1, -1):
                if title[-size:] in text or title[:size] in text:
                    length = max(length, size)
                    break
        if length > best_length:
            best, best_length = [order], length
        elif length == best_length and length > 1:
            best.append(order)
    return tuple(best)


def option_line(position: int, order: Order) -> str:
    """Return one line of the 'which order' question: number, short item name, last four of the order number."""
    title = order.title or "订单"
    short = title if len(title) <= _SHORT_TITLE else title[: _SHORT_TITLE - 1] + "…"
    return f"{position}. {short}（尾号{order.order_id[-4:]}）"


def option_line_en(position: int, order: Order) -> str:
    """Return the English wording of ``option_line``."""
    title = order.title or "order"
    short = title if len(title) <= 2 * _SHORT_TITLE else title[: 2 * _SHORT_TITLE - 1] + "…"
    return f"{position}. {short} (ending {order.order_id[-4:]})"
