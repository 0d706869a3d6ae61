"""Order numbers in messages, ordinals, and the group and stage an order leads to."""

from __future__ import annotations

import pytest

from app.replies.orders import ordinal, typed_order_ids
from app.replies.stage import group_by_stage, stage_label
from tests.unit.replies.world import HOUR, NOW, order


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("O-9什么时候发货", ("O-9",)),
        ("查下E-1001和 E-1002", ("E-1001", "E-1002")),
        ("订单123456", ("123456",)),
        ("2026111212345678", ("2026111212345678",)),
        ("订单号20261112", ("20261112",)),
        ("20261112到吗", ()),
        ("电话13912345678", ()),
        ("单号SF1234567890123", ()),
        ("身高165体重110", ()),
        ("12345", ()),
        ("价格129.00", ()),
        ("没有数字", ()),
        ("", ()),
    ],
)
def test_order_numbers_are_told_from_phones_dates_and_tracking_numbers(
    text: str, ids: tuple[str, ...]
) -> None:
    assert typed_order_ids(text) == ids


@pytest.mark.parametrize(
    ("text", "count", "position"),
    [
        ("1", 3, 0),
        ("第二个", 3, 1),
        ("选3", 3, 2),
        ("第三单吧", 3, 2),
        ("最后一个", 3, 2),
        ("the first one", 2, 0),
        ("2nd", 2, 1),
        ("4", 3, None),
        ("第二个颜色有货吗", 3, None),
        ("我要两件", 3, None),
        ("", 3, None),
        ("1001", 3, None),
    ],
)
def test_an_ordinal_picks_only_what_was_listed(text: str, count: int, position: int | None) -> None:
    assert ordinal(text, count) == position


@pytest.mark.parametrize(
    ("status", "topic", "group"),
    [
        (None, None, "presale"),
        ("pending_payment", None, "presale"),
        ("preparing", "inv_issue", "presale"),
        ("paid", "as_unshipped_refund", "aftersale"),
        ("paid", "cmp_service", "aftersale"),
        ("shipped", None, "aftersale"),
        ("delivered", "price_ask", "aftersale"),
        ("closed", None, "presale"),
        (None, "rev_bad_given", "aftersale"),
    ],
)
def test_the_stage_of_the_order_and_the_topic_name_the_group(
    status: str | None, topic: str | None, group: str
) -> None:
    assert group_by_stage(order(status=status) if status else None, topic, NOW) == group


def test_an_overdue_order_belongs_to_aftersale_although_unshipped() -> None:
    late = order(status="paid", promised_ship_at_ms=NOW - HOUR)
    assert group_by_stage(late, "ship_urge", NOW) == "aftersale"


@pytest.mark.parametrize(
    ("before", "topics", "status", "stage"),
    [
        ("welcome", (), None, "dialogue"),
        ("welcome", ("price_bargain",), None, "bargaining"),
        ("dialogue", ("pay_fail",), None, "payment"),
        ("payment", ("prod_detail",), None, "dialogue"),
        ("dialogue", ("ship_eta",), "paid", "courier_choice"),
        ("dialogue", ("ship_eta",), "shipped", "aftersales"),
        ("aftersales", ("close_bye",), None, "farewell"),
        ("payment", ("greet_hello",), None, "payment"),
        ("dialogue", ("prod_detail", "as_policy"), None, "aftersales"),
    ],
)
def test_the_stage_follows_the_topics(
    before: str, topics: tuple[str, ...], status: str | None, stage: str
) -> None:
    assert stage_label(before, topics, order(status=status) if status else None) == stage
