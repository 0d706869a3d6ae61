"""Whom a visitor can play: a few buyers with different levels and different orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["BUYERS", "TIERS", "Buyer", "OrderKind"]


class OrderKind(StrEnum):
    """The situations an order of the sandbox can be in."""

    PENDING = "pending"
    PAID = "paid"
    OVERDUE = "overdue"
    PREPARING = "preparing"
    SHIPPED = "shipped"
    STALE = "stale"
    DELIVERED = "delivered"
    COMPLETED = "completed"
    CLOSED = "closed"
    REFUNDING = "refunding"
    REFUND_APPROVED = "refund_approved"
    REFUND_REJECTED = "refund_rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """A buyer: level, receiver, and what they ordered, the order that is shown first in front."""

    key: str
    nickname: str
    tier: str
    receiver: Mapping[str, str]
    city: str
    orders: tuple[OrderKind, ...]


TIERS: Mapping[str, str] = {"normal": "普通", "silver": "白银", "gold": "黄金", "diamond": "钻石"}
"""The marketplace's levels, with their Chinese names."""

BUYERS: tuple[Buyer, ...] = (
    Buyer(
        key="xiaolu",
        nickname="小鹿爱露营",
        tier="gold",
        receiver={
            "name": "陆小鹿",
            "phone": "13800001234",
            "address": "广东省广州市天河区体育东路100号5栋301",
        },
        city="广州",
        orders=(
            OrderKind.SHIPPED,
            OrderKind.PAID,
            OrderKind.STALE,
            OrderKind.OVERDUE,
            OrderKind.PENDING,
            OrderKind.PREPARING,
            OrderKind.DELIVERED,
            OrderKind.REFUNDING,
            OrderKind.COMPLETED,
            OrderKind.CLOSED,
        ),
    ),
    Buyer(
        key="laochen",
        nickname="老陈爬山去",
        tier="normal",
        receiver={"name": "陈立", "phone": "13900005678", "address": "四川省成都市武侯区科华路22号1单元902"},
        city="成都",
        orders=(OrderKind.DELIVERED, OrderKind.REFUND_REJECTED, OrderKind.COMPLETED),
    ),
    Buyer(
        key="ajie",
        nickname="急性子阿杰",
        tier="silver",
        receiver={"name": "何杰", "phone": "13700002468", "address": "上海市徐汇区漕溪路88弄6号501"},
        city="上海",
        orders=(OrderKind.OVERDUE, OrderKind.STALE),
    ),
    Buyer(
        key="shuangshuang",
        nickname="双双今天也在拆快递",
        tier="normal",
        receiver={"name": "周双", "phone": "13600001357", "address": "北京市海淀区中关村南路9号3楼306"},
        city="北京",
        orders=(OrderKind.SHIPPED, OrderKind.PREPARING, OrderKind.SHIPPED),
    ),
    Buyer(
        key="annie",
        nickname="Annie Wu",
        tier="diamond",
        receiver={"name": "吴安妮", "phone": "13500009753", "address": "浙江省杭州市西湖区文三路66号2幢1101"},
        city="杭州",
        orders=(OrderKind.SHIPPED, OrderKind.REFUND_APPROVED, OrderKind.PENDING),
    ),
    Buyer(
        key="momo",
        nickname="momo",
        tier="normal",
        receiver={"name": "莫默", "phone": "13400008642", "address": "福建省厦门市思明区环岛路18号201"},
        city="厦门",
        orders=(),
    ),
)
