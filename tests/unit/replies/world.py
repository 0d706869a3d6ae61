"""Turns for tests: a shop, entries, orders and messages built from few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from app.core.clock import from_rfc3339
from app.domain.conversations import Conversation, ConversationState, Memory
from app.domain.knowledge import Answer, AnswerMode, CaseSpec, Condition, Entry, LocalisedEntry, Snapshot
from app.domain.matching import Band, Candidate, Match, Understanding
from app.domain.messages import Content, ContentType
from app.domain.orders import Order, OrderLookup, OrderStatus, OrderView
from app.domain.shops import HoursSpan, ShopPolicy
from app.domain.turns import Decision, NeedOrders, Turn, Utterance
from app.replies.decide import ReplyPolicy
from app.replies.templates import TemplateSet
from app.replies.texts import TextBook

NOW = from_rfc3339("2026-11-12T14:00:00+08:00")
HOUR = 3_600_000
BANDS = {Band.ANSWER: 0.95, Band.ASK: 0.6, Band.UNKNOWN: 0.1}


@cache
def text_book() -> TextBook:
    root = Path(__file__).parents[3] / "knowledge" / "texts"
    return TextBook.load(YAML(typ="safe").load(root / "zh.yaml"), YAML(typ="safe").load(root / "en.yaml"))


def make_policy() -> ReplyPolicy:
    return ReplyPolicy(texts=text_book(), templates=TemplateSet())


def make_shop(**settings: Any) -> ShopPolicy:
    facts = {
        "courier": "中通快递",
        "postage_rule": "满99元包邮，不满收8元",
        "eta_days": {"浙江": "1-2天", "广东": "2-3天"},
        "promos": [
            {
                "name": "双11返场",
                "rule": "满300减30",
                "start": "2026-11-10",
                "end": "2026-11-15T23:59:59+08:00",
            },
            {"name": "开店三周年", "rule": "全场9折", "start": "2026-10-01", "end": "2026-10-07"},
        ],
        "gift": "棉袜一双",
        "gift_in_bargaining": True,
        "catalog": [
            {
                "product_id": "P-1",
                "title": "针织开衫",
                "price": 129,
                "material": "棉",
                "stock": {"黑色M": 12, "黑色L": 0, "燕麦色L": 7},
            },
            {"product_id": "P-2", "title": "高腰牛仔裤", "price": 159, "stock": {"27": 8, "28": 0}},
        ],
    } | dict(settings.pop("facts", {}))
    base: dict[str, Any] = {"id": "s1", "name": "暖屿服饰", "welcome": "", "facts": facts}
    return ShopPolicy(**(base | settings))


SHIFTS = {"presale": (HoursSpan(8 * 60, 12 * 60),), "aftersale": (HoursSpan(8 * 60, 12 * 60),)}
"""Hours that are over at NOW."""


def entry(
    entry_id: str,
    text: str | None = "好的",
    *,
    question: str = "",
    topic: str | None = None,
    mode: AnswerMode = AnswerMode.AUTO,
    group: str | None = None,
    case: CaseSpec | None = None,
    answers: Sequence[Answer] = (),
    en: str | None = None,
    **more: Any,
) -> Entry:
    texts = {"en": LocalisedEntry(question=f"{entry_id}?", variants=(), answer=en)} if en is not None else {}
    return Entry(
        id=entry_id,
        topic=topic or entry_id,
        category="c",
        question=question or f"{entry_id}的问题",
        variants=(),
        default=Answer(text=text, mode=mode, group=group, case=case),
        answers=tuple(answers),
        texts=texts,
        **more,
    )


def when(
    text: str, *, mode: AnswerMode = AnswerMode.AUTO, group: str | None = None, **condition: Any
) -> Answer:
    for name in ("order_status", "product", "tier", "channel"):
        if name in condition:
            condition[name] = frozenset(condition[name])
    return Answer(text=text, mode=mode, group=group, when=Condition(**condition))


def match(entry_ids: str | Sequence[str], band: Band = Band.ANSWER, text: str = "") -> Match:
    ids = [entry_ids] if isinstance(entry_ids, str) else list(entry_ids)
    confidence = BANDS[band]
    ranked = tuple(
        Candidate(entry_id=entry_id, score=max(0.0, confidence - 0.1 * place))
        for place, entry_id in enumerate(ids)
    )
    return Match(text=text, ranked=ranked, confidence=confidence, band=band)


def nothing(text: str) -> Match:
    return Match(text=text, ranked=(), confidence=0.0, band=Band.UNKNOWN)


def order(order_id: str = "E-1001", status: str = "shipped", **more: Any) -> Order:
    shipment = {
        "carrier": "中通快递",
        "tracking_no": "ZT7700112233445",
        "status": "in_transit",
        "latest": "【嘉兴分拨中心】已发往【杭州】",
        "latest_at": "2026-11-12T06:30:00+08:00",
    }
    shipped = status in ("shipped", "delivered", "completed")
    title = more.pop("title", "针织开衫")
    parsed = {name: more.pop(name) for name in list(more) if name.endswith("_ms") or name == "stale"}
    doc: dict[str, Any] = {
        "order_id": order_id,
        "status": status,
        "status_text": status,
        "promised_ship_at": "2026-11-13T09:02:00+08:00",
        "total": "129.00",
        "items": [{"product_id": "P-1", "title": title, "sku": "黑色 M", "quantity": 1, "price": "129.00"}],
        "receiver": {"name": "陈*", "phone": "139****1111", "address": "浙江省杭州市***"},
        "shipments": [shipment] if shipped else [],
        "refunds": [],
    } | more
    base: dict[str, Any] = {
        "promised_ship_at_ms": from_rfc3339("2026-11-13T09:02:00+08:00"),
        "trace_at_ms": from_rfc3339("2026-11-12T06:30:00+08:00") if shipped else None,
    }
    return Order(order_id=order_id, buyer_id="b1", status=OrderStatus(status), doc=doc, **(base | parsed))


def view(*orders: Order, lookup: OrderLookup | None = None, **more: Any) -> OrderView:
    found = OrderLookup.FOUND if orders else OrderLookup.NONE
    return OrderView(lookup=lookup or found, orders=tuple(orders), **more)


@dataclass
class World:
    """A conversation that goes on turn by turn, with the memory of the turn before."""

    entries: Sequence[Entry] = ()
    shop: ShopPolicy = field(default_factory=make_shop)
    orders: OrderView = field(default_factory=view)
    memory: Memory = field(default_factory=Memory)
    state: ConversationState = ConversationState.BOT
    now_ms: int = NOW
    tier: str | None = None
    has_open_escalation: bool = False
    open_cases: Sequence[Mapping[str, object]] = ()
    conversation: Mapping[str, Any] = field(default_factory=dict[str, Any])
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    policy: ReplyPolicy = field(default_factory=make_policy)
    asked: list[NeedOrders] = field(default_factory=list[NeedOrders])

    def turn(self, utterances: Sequence[Utterance], orders: OrderView | None = None) -> Turn:
        conversation = Conversation(
            id=1,
            account_id="a1",
            external_id="c-1",
            shop_id=self.shop.id,
            channel="generic",
            state=self.state,
            version=1,
            buyer_external_id="b1",
            buyer_tier=self.tier,
            **self.conversation,
        )
        return Turn(
            utterances=tuple(utterances),
            conversation=conversation,
            memory=self.memory,
            shop=self.shop,
            snapshot=Snapshot(version=1, entries=tuple(self.entries)),
            now_ms=self.now_ms,
            orders=orders,
            has_open_escalation=self.has_open_escalation,
            open_cases=tuple(self.open_cases),
            texts=self.texts,
        )

    def hear(self, *utterances: Utterance) -> Decision:
        """Decide a burst, look orders up when asked, and keep the memory."""
        self.asked = []
        decision = self.policy.decide(self.turn(utterances))
        if isinstance(decision, NeedOrders):
            self.asked.append(decision)
            decision = self.policy.decide(self.turn(utterances, self._look_up(decision)))
            assert isinstance(decision, Decision)
        self.memory = decision.memory
        self.now_ms += 30_000
        return decision

    def say(
        self, text: str, *matches: Match, language: str = "zh", social: bool = False, **more: Any
    ) -> Decision:
        return self.hear(says(text, *matches, language=language, social=social, **more))

    def _look_up(self, need: NeedOrders) -> OrderView:
        if need.order_id is None:
            return self.orders
        found = next((one for one in self.orders.orders if one.order_id == need.order_id), None)
        if found is None and self.orders.lookup in (OrderLookup.FOUND, OrderLookup.NONE):
            return replace(self.orders, lookup=OrderLookup.NOT_FOUND, asked_id=need.order_id)
        if need.trusted:
            return replace(self.orders, attached=found, asked_id=need.order_id)
        return replace(self.orders, asked=found, asked_id=need.order_id)


def says(text: str, *matches: Match, language: str = "zh", social: bool = False, **more: Any) -> Utterance:
    questions = tuple(replace(one, text=one.text or text) for one in matches) or (nothing(text),)
    understanding = Understanding(
        text=text, normalised=text.lower(), language=language, questions=questions, social=social
    )
    return Utterance(
        message_id=1,
        external_id="m-1",
        content=Content(text=text),
        received_at_ms=NOW,
        understanding=understanding,
        **more,
    )


def shows(kind: str, **content: Any) -> Utterance:
    return Utterance(
        message_id=1,
        external_id="m-1",
        content=Content(type=ContentType(kind), **content),
        received_at_ms=NOW,
    )


def texts_of(decision: Decision) -> str:
    return "\n".join(reply.text for reply in decision.replies)
