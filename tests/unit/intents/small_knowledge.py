"""A small knowledge base for matcher tests, in the shape of a published snapshot."""

from __future__ import annotations

from typing import Any

from app.domain.knowledge import Answer, Entry, LocalisedEntry, Snapshot, SynonymGroup
from app.intents.matcher import Scope

SCOPE = Scope(shop_id="shop", channel="generic", now_ms=1_000)

PHRASINGS: dict[str, tuple[str, ...]] = {
    "hello": ("您好", "在吗", "你好", "有人在吗"),
    "thanks": ("谢谢", "多谢了", "谢谢你啊"),
    "ship_when": ("什么时候发货", "今天能发货吗", "多久可以发出", "几天发货呀", "下单后几天寄出"),
    "track": ("我的快递到哪了", "查一下物流", "包裹到哪里了", "物流怎么不动了", "快递走到哪了"),
    "invoice": ("可以开发票吗", "发票怎么开", "能开专票不", "开票要什么信息", "电子发票在哪下载"),
    "return": ("怎么退货", "我要退货", "不喜欢能退吗", "退货怎么操作", "想把东西退了"),
    "refund": ("退款什么时候到账", "钱怎么还没退给我", "退款多久到", "退款进度"),
    "address": ("改一下收货地址", "地址写错了能改吗", "换个地址寄", "收件地址填错了"),
    "cheaper": ("能便宜点吗", "少点行不行", "最低多少钱", "可以打折吗", "给个优惠价"),
    "courier": ("发什么快递", "可以发顺丰吗", "用哪家快递寄", "能指定快递吗"),
    "complaint": ("我要投诉", "我要投诉你们", "服务太差了", "打12315投诉"),
    "gift": ("有赠品吗", "买了送什么", "送不送小礼物"),
}


def entry(name: str, phrasings: tuple[str, ...], **more: Any) -> Entry:
    """Return an entry with these phrasings and no answer."""
    return Entry(
        id=name,
        topic=name,
        category="test",
        question=phrasings[0],
        variants=phrasings[1:],
        default=Answer(text=None),
        **more,
    )


def snapshot(*more: Entry, synonyms: tuple[SynonymGroup, ...] = (), version: int = 1) -> Snapshot:
    """Return the small knowledge base, with further entries."""
    english = {
        "ship_when": LocalisedEntry(
            question="When will you ship my order?",
            variants=("when do you send it", "how long until it ships", "has it been shipped"),
            answer=None,
        ),
        "return": LocalisedEntry(
            question="How do I return an item?",
            variants=("I want to return this", "return policy", "can I send it back"),
            answer=None,
        ),
    }
    entries = [
        entry(name, texts, texts={"en": english[name]} if name in english else {})
        for name, texts in PHRASINGS.items()
    ]
    return Snapshot(version=version, entries=(*entries, *more), synonyms=synonyms)
