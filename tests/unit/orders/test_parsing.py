"""From an order service's JSON to the one shape that templates and agents see."""

from typing import Any

import pytest

from app.core.clock import from_rfc3339
from app.core.pii import mask_address, mask_name, mask_phone
from app.domain.orders import OrderStatus
from app.orders.parsing import merge_order, merge_refund, parse_order, parse_orders

NOW_MS = from_rfc3339("2026-11-21T08:00:00Z")


def document(order_id: str = "O-1", **changes: Any) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "buyer_id": "b-1",
        "platform": "tmall",
        "status": "shipped",
        "status_text": "已发货",
        "created_at": "2026-11-10T09:00:00+08:00",
        "paid_at": "2026-11-10T09:02:00+08:00",
        "promised_ship_at": "2026-11-12T09:02:00+08:00",
        "shipped_at": "2026-11-11T18:00:00+08:00",
        "total": 129,
        "postage": "8.00",
        "currency": "CNY",
        "items": [{"product_id": 7, "title": "针织开衫", "sku": "黑色 M", "quantity": 2, "price": 64.5}],
        "receiver": {"name": "陈小明", "phone": "13912341111", "address": "浙江省杭州市西湖区文三路1号"},
        "shipments": [
            {
                "carrier": "中通",
                "tracking_no": "ZT1",
                "latest": "已发往杭州",
                "latest_at": "2026-11-12T06:30:00+08:00",
                "eta": "2026-11-13",
            },
            {"carrier": "中通", "tracking_no": "ZT2", "latest_at": "2026-11-12T07:30:00+08:00"},
        ],
        "refunds": [{"refund_id": "R-1", "kind": "refund_only", "status": "approved", "amount": 9.9}],
        "seller_memo": {"flag": "red", "text": "加急"},
    } | changes


def test_an_order_is_read_whole():
    order = parse_order(document(), fetched_at_ms=NOW_MS)
    assert order is not None
    assert (order.order_id, order.buyer_id, order.status) == ("O-1", "b-1", OrderStatus.SHIPPED)
    assert order.shipped_at_ms == from_rfc3339("2026-11-11T10:00:00Z")
    assert order.trace_at_ms == from_rfc3339("2026-11-11T23:30:00Z")
    assert order.title == "针织开衫"
    doc = order.doc
    assert doc["created_at"] == "2026-11-10T01:00:00.000Z"
    assert (doc["total"], doc["postage"], doc["items"][0]["price"], doc["refunds"][0]["amount"]) == (
        "129.00",
        "8.00",
        "64.50",
        "9.90",
    )
    assert doc["items"][0]["product_id"] == "7"
    assert doc["shipments"][0]["eta"] == "2026-11-13"
    assert doc["receiver"] == {"name": "陈*", "phone": "139****1111", "address": "浙江省杭州市***"}
    assert (doc["fetched_at"], doc["stale"]) == ("2026-11-21T08:00:00.000Z", False)


def test_parsing_the_result_again_changes_nothing():
    order = parse_order(document(), fetched_at_ms=NOW_MS)
    assert order is not None
    assert parse_order(order.doc, fetched_at_ms=NOW_MS) == order


@pytest.mark.parametrize(
    "changes",
    [
        {"order_id": ""},
        {"order_id": None},
        {"order_id": True},
        {"status": "lost"},
        {"status": None},
        {"status": ["paid"]},
    ],
)
def test_an_order_that_would_misinform_is_none(changes: dict[str, Any]):
    assert parse_order(document(**changes), fetched_at_ms=NOW_MS) is None


@pytest.mark.parametrize(
    "junk", [None, 5, "x", [], {}, [[]], ["x"], [None, {}], {"a": {}}, float("nan"), float("inf"), "9" * 5000]
)
def test_junk_in_any_field_is_no_failure(junk: Any):
    for name in document():
        order = parse_order(document(**{name: junk}), fetched_at_ms=NOW_MS)
        assert order is None or order.status is OrderStatus.SHIPPED


@pytest.mark.parametrize(
    ("given", "currency", "written"),
    [
        (129, "CNY", "129.00"),
        (0, "CNY", "0.00"),
        (129.9, "CNY", "129.90"),
        (0.1 + 0.2, "CNY", "0.30"),
        ("129", "CNY", "129"),
        (" 129.50 ", "CNY", "129.50"),
        ("1E+2", "CNY", "100"),
        (3000, "JPY", "3000"),
        ("-5.00", "CNY", "-5.00"),
        ("NaN", "CNY", None),
        ("1e999999", "CNY", None),
        ("¥5", "CNY", None),
        (True, "CNY", None),
        (None, "CNY", None),
    ],
)
def test_money_leaves_as_a_decimal_string(given: Any, currency: str, written: str | None):
    order = parse_order(document(total=given, currency=currency), fetched_at_ms=NOW_MS)
    assert order is not None
    assert order.doc["total"] == written


def test_a_list_is_newest_first_without_repeats_without_strangers_and_at_most_twenty():
    documents = [document(f"O-{day}", created_at=f"2026-11-{day:02}T00:00:00Z") for day in range(1, 28)]
    extra = [
        document("O-27"),
        document("O-99", buyer_id="b-2"),
        document("O-98", created_at=None),
        {"order_id": "O-97"},
    ]
    orders = parse_orders(documents + extra, fetched_at_ms=NOW_MS, buyer_id="b-1")
    assert [order.order_id for order in orders] == [f"O-{day}" for day in range(27, 7, -1)]


def test_an_order_without_a_buyer_belongs_to_the_one_who_was_asked_for():
    (order,) = parse_orders(
        [document(buyer_id=None, platform=None)], fetched_at_ms=NOW_MS, buyer_id="b-7", platform="jd"
    )
    assert (order.buyer_id, order.doc["platform"]) == ("b-7", "jd")


def test_an_event_may_carry_only_what_changed():
    merged = merge_order([document("O-1"), document("O-2")], {"order_id": "O-2", "status": "delivered"})
    assert [(one["order_id"], one["status"], one["total"]) for one in merged] == [
        ("O-2", "delivered", 129),
        ("O-1", "shipped", 129),
    ]


def test_a_refund_is_added_or_moved_on():
    documents = merge_refund([document()], "O-1", {"refund_id": "R-1", "status": "paid"})
    assert documents[0]["refunds"] == [
        {"refund_id": "R-1", "kind": "refund_only", "status": "paid", "amount": 9.9}
    ]
    documents = merge_refund(documents, "O-1", {"refund_id": "R-2", "status": "open"})
    assert [refund["refund_id"] for refund in documents[0]["refunds"]] == ["R-1", "R-2"]
    assert merge_refund(documents, "O-9", {"refund_id": "R-3"}) == documents


@pytest.mark.parametrize(
    ("name", "masked"), [("陈小明", "陈*"), ("陈*", "陈*"), ("John Smith", "J*"), ("", ""), (" ", "")]
)
def test_names(name: str, masked: str):
    assert mask_name(name) == masked


@pytest.mark.parametrize(
    ("phone", "masked"),
    [
        ("13912341111", "139****1111"),
        ("+86 139-1234-1111", "139****1111"),
        ("139****1111", "139****1111"),
        ("0571-88881234", "057****1234"),
        ("12345", "****"),
        ("", ""),
    ],
)
def test_phones(phone: str, masked: str):
    assert mask_phone(phone) == masked


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("浙江省杭州市西湖区文三路1号", "浙江省杭州市***"),
        ("浙江省杭州市***", "浙江省杭州市***"),
        ("上海市浦东新区世纪大道1号", "上海市***"),
        ("北京海淀区中关村1号", "北京***"),
        ("内蒙古自治区呼和浩特市新城区1号", "内蒙古自治区呼和浩特市***"),
        ("深圳市南山区1号", "深圳市***"),
        ("文三路1号", "***"),
        ("1 Main Street", "***"),
        ("***", "***"),
        ("", ""),
    ],
)
def test_addresses(address: str, masked: str):
    assert mask_address(address) == masked
