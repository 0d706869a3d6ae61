"""A turn while it is being decided: the message's text, facts looked up once, and what memory will be afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import Any

from app.domain.conversations import ConversationState, Memory
from app.domain.messages import ContentType
from app.domain.orders import Order
from app.domain.shops import ShopPolicy
from app.domain.turns import Turn
from app.replies import shopfacts
from app.replies.guard import Guard
from app.replies.orders import OrderPick, OrderProblem, choose_order, typed_order_ids
from app.replies.outcome import OrdersWanted, Saying
from app.replies.slots import Facts, Listing, Table, clean, order_slots
from app.replies.templates import MissingFact, TemplateSet
from app.replies.texts import TextBook

__all__ = ["Situation"]


# Looked up once: naming a member of an enumeration takes longer than comparing it.
_TEXT = ContentType.TEXT
_QUEUED = ConversationState.QUEUED


class Situation:
    """Everything a handler reads of a turn, and what it notes. Lives for one call of ``decide``."""

    __slots__ = (
        "_changes",
        "_facts",
        "_picks",
        "_product",
        "_promo",
        "guard",
        "held",
        "language",
        "logs",
        "memory",
        "now_ms",
        "shop",
        "templates",
        "text",
        "texts",
        "turn",
        "typed_counts",
        "why",
    )

    def __init__(self, turn: Turn, texts: TextBook, templates: TemplateSet, guard: Guard) -> None:
        self.turn = turn
        self.texts = texts
        self.templates = templates
        self.guard = guard
        self.shop: ShopPolicy = turn.shop
        self.memory: Memory = turn.memory
        self.now_ms: int = turn.now_ms
        self.held = turn.has_open_escalation or turn.conversation.state is _QUEUED
        """Already waiting for a human: no second escalation."""
        spoken = [utterance.content.text for utterance in turn.utterances if utterance.content.type is _TEXT]
        self.text = spoken[0] if len(spoken) == 1 else "\n".join(filter(None, spoken))
        self.language = _language(turn)
        self.why: list[str] = []
        self.logs: list[str] = []
        self.typed_counts = True
        """Whether a number in the text is taken for an order number even when it is none of the buyer's."""
        self._changes: dict[str, Any] = {}
        self._picks: dict[str | None, OrderPick] = {}
        self._facts: dict[str | None, Facts] = {}
        self._product: Mapping[str, Any] | bool | None = False
        self._promo: Mapping[str, Any] | bool | None = False

    # Memory ------------------------------------------------------------------------------------------------

    def remember(self, **changes: Any) -> None:
        """Note fields of memory that differ after this turn."""
        self._changes.update(changes)

    def remembered(self, name: str) -> Any:
        """Return a field of memory as it will be after this turn."""
        return self._changes[name] if name in self._changes else getattr(self.memory, name)

    def forget(self, **empty: Any) -> None:
        """Note fields as empty, unless this turn has noted something for them."""
        for name, value in empty.items():
            self._changes.setdefault(name, value)

    def memory_after(self) -> Memory:
        """Return the memory with all that was noted."""
        if not self._changes:
            return self.memory
        # What ``dataclasses.replace`` does, without looking the fields up again.
        kept = dict(zip(_MEMORY_FIELDS, _read_memory(self.memory), strict=True))
        return Memory(**(kept | self._changes))

    # Texts -------------------------------------------------------------------------------------------------

    def say(self, text_id: str, *, extra: Mapping[str, Any] | None = None, generic: bool = False) -> Saying:
        """Return a built-in text, filled in; where a value it names is missing, one that needs none.

        A shop may have worded it with slots of its own, so that any text can lack a value.
        """
        try:
            return self.say_strictly(text_id, extra=extra, generic=generic)
        except MissingFact as missing:
            self.why.append(f"missing:{missing.slot}")
        for plain_id in (text_id, _WITHOUT_SLOTS.get(text_id, "clarify")):
            source = self.texts.get(plain_id, self.language, _NO_OVERRIDES)
            try:
                facts = _Layered(extra, self) if extra is not None else None
                return Saying(self.render(source, facts), source, plain_id, generic)
            except MissingFact:
                continue
        return Saying("", "", text_id, generic)

    def say_strictly(
        self, text_id: str, *, extra: Mapping[str, Any] | None = None, generic: bool = False
    ) -> Saying:
        """Return a built-in text, filled in.

        Raises:
            MissingFact: a slot of it has no value.
        """
        source = self.texts.get(text_id, self.language, self.turn.texts)
        facts = _Layered(extra, self) if extra is not None else None
        return Saying(self.render(source, facts), source, text_id, generic)

    def say_first(self, *text_ids: str, generic: bool = False) -> Saying:
        """Return the first of several built-in texts whose slots all have values; the last must need none."""
        for text_id in text_ids[:-1]:
            try:
                return self.say_strictly(text_id, generic=generic)
            except MissingFact:
                continue
        return self.say(text_ids[-1], generic=generic)

    def render(self, source: str, facts: Mapping[str, Any] | None = None, topic: str | None = None) -> str:
        """Fill in a template with this turn's facts, or with those given.

        Raises:
            MissingFact: a slot has no value.
            OrdersWanted: it names the order and the orders haven't been looked up.
        """
        if facts is None:
            if self.templates.is_static(source):
                return source.strip()
            facts = self.facts(topic)
        return self.templates.render(source, facts, self.shop.tz).strip()

    # Facts -------------------------------------------------------------------------------------------------

    @property
    def channel(self) -> str:
        return self.turn.conversation.channel

    @property
    def tier(self) -> str | None:
        return self.turn.conversation.buyer_tier

    @property
    def is_vip(self) -> bool:
        return self.tier is not None and self.tier in self.shop.vip_tiers

    def local_minute(self) -> int:
        return shopfacts.local_minute(self.shop, self.now_ms)

    def promo(self) -> Mapping[str, Any] | None:
        """Return the running promotion, or None."""
        if isinstance(self._promo, bool):
            self._promo = shopfacts.running_promo(self.shop, self.now_ms)
        return self._promo

    def pick(self, topic: str | None) -> OrderPick:
        """Return the order a question of this topic is about, or why there is none.

        Raises:
            OrdersWanted: the orders haven't been looked up.
        """
        picked = self._picks.get(topic)
        if picked is None:
            self.want_orders()
            assert self.turn.orders is not None
            picked = choose_order(
                self.turn.orders,
                text=self.text,
                remembered=self.remembered("order_id"),
                topic=topic,
                typed_counts=self.typed_counts,
            )
            self._picks[topic] = picked
            if picked.order is not None and picked.order.order_id != self.remembered("order_id"):
                self.remember(order_id=picked.order.order_id)
        return picked

    def forget_picks(self) -> None:
        """Choose again, after memory has changed which order it is."""
        self._picks.clear()
        self._facts.clear()

    def want_orders(self) -> None:
        """Raise OrdersWanted unless the orders are here, naming the order the message carries."""
        if self.turn.orders is not None:
            return
        attached = self.attached_order_id()
        if attached is not None:
            raise OrdersWanted(attached, trusted=True)
        typed = typed_order_ids(self.text)
        raise OrdersWanted(typed[0] if typed else None, trusted=False)

    def attached_order_id(self) -> str | None:
        """Return the order the platform attached to the burst's messages, the latest first."""
        for utterance in reversed(self.turn.utterances):
            attached = utterance.content.order_id or utterance.order_id
            if attached:
                return attached
        return None

    def attached_product_id(self) -> str | None:
        """Return the product the platform attached to the burst's messages, the latest first."""
        for utterance in reversed(self.turn.utterances):
            attached = utterance.content.product_id or utterance.product_id
            if attached:
                return attached
        return None

    def product(self) -> Mapping[str, Any] | None:
        """Return the catalogue's product in question: named, attached, remembered, of the order, or the only one."""
        if isinstance(self._product, bool):
            self._product = self._find_product()
            if self._product is not None:
                product_id = self._product.get("product_id")
                if product_id is not None and str(product_id) != self.remembered("product_id"):
                    self.remember(product_id=str(product_id))
        return self._product

    def names_product(self) -> bool:
        """Whether the text itself names a product of the catalogue."""
        return shopfacts.find_product(self.shop, None, self.text) is not None

    def _find_product(self) -> Mapping[str, Any] | None:
        attached = self.attached_product_id()
        named = shopfacts.find_product(self.shop, None, self.text)
        if named is not None and (attached is None or str(named.get("title")) in self.text):
            return named
        for product_id in (attached, self.remembered("product_id"), self._ordered_product_id()):
            if product_id and (found := shopfacts.find_product(self.shop, product_id, "")) is not None:
                return found
        return named or shopfacts.only_product(self.shop)

    def _ordered_product_id(self) -> str | None:
        if self.turn.orders is None:
            return None
        order = self.pick(None).order
        items = order.doc.get("items") if order is not None else None
        return str(items[0].get("product_id") or "") if items else None

    def facts(self, topic: str | None) -> Facts:
        """Return what templates see when they answer a question of this topic."""
        facts = self._facts.get(topic)
        if facts is None:
            facts = self._facts[topic] = Facts(partial(_build, self, topic), _BUILDERS.keys())
        return facts

    def order_slots(self, topic: str | None) -> Table | None:
        """Return ``order.*`` of the order in question."""
        order = self.pick(topic).order
        return order_slots(order.doc) if order is not None else None

    def buyer_slots(self) -> Table | None:
        """Return ``buyer.*``."""
        slots = Table()
        if (tier := clean(self.tier)) is not None:
            slots["tier"] = tier
        if (nickname := clean(self.turn.conversation.buyer_nickname)) is not None:
            slots["nickname"] = nickname
        orders: tuple[Order, ...] = self.turn.orders.orders if self.turn.orders is not None else ()
        if titles := [order.title for order in orders[:5] if order.title]:
            slots["orders"] = Listing(titles)
        return slots or None

    def known_order(self, topic: str | None = None) -> Order | None:
        """Return the order in question when the orders are here and one can be chosen; never asks for them."""
        if self.turn.orders is None:
            return None
        picked = self.pick(topic)
        if picked.order is not None:
            return picked.order
        # Several, and none named: the newest stands for the stage.
        return picked.options[0] if picked.problem is OrderProblem.SEVERAL and picked.options else None


_MEMORY_FIELDS = tuple(field.name for field in fields(Memory))
_read_memory = attrgetter(*_MEMORY_FIELDS)


class _Layered(Mapping[str, Any]):
    """A few values laid over the turn's facts."""

    __slots__ = ("_over", "_situation")

    def __init__(self, over: Mapping[str, Any], situation: Situation) -> None:
        self._over = over
        self._situation = situation

    def __getitem__(self, root: str) -> Any:
        return self._over[root] if root in self._over else self._situation.facts(None)[root]

    def __iter__(self) -> Iterator[str]:
        return iter({*self._over, *self._situation.facts(None)})

    def __len__(self) -> int:
        return len({*self._over, *self._situation.facts(None)})


_NO_OVERRIDES: Mapping[str, str] = {}
_WITHOUT_SLOTS: Mapping[str, str] = {
    "ship_pending": "ship_pending_plain",
    "off_hours": "hold",
    "group_closed": "hold",
}
"""What is said instead of a built-in text that lacks a value; otherwise the clarifying question."""

_Builder = Callable[["Situation", str | None], Mapping[str, Any] | None]

_BUILDERS: Mapping[str, _Builder] = {
    "shop": lambda at, _: shopfacts.shop_slots(at.shop, at.language),
    "promo": lambda at, _: shopfacts.promo_slots(at.shop, at.now_ms),
    "product": lambda at, _: shopfacts.product_slots(at.product()),
    "stock": lambda at, _: shopfacts.stock_slots(at.product(), at.text),
    "order": lambda at, topic: at.order_slots(topic),
    "buyer": lambda at, _: at.buyer_slots(),
    "case": lambda at, _: shopfacts.case_slots(at.turn.open_cases, at.remembered("order_id")),
    "return": lambda at, _: shopfacts.return_slots(at.shop, at.turn.open_cases),
    "invoice": lambda at, _: shopfacts.invoice_slots(at.turn.open_cases),
    "agent": lambda at, _: Table(no=at.shop.bot_name),
    "warranty": lambda at, _: shopfacts.warranty_slots(at.shop, at.product()),
    "courier": lambda at, _: _optional("quote", at.shop.facts.get("courier_quote")),
}


def _build(situation: Situation, topic: str | None, root: str) -> Mapping[str, Any] | None:
    """Return one root of the facts that templates see."""
    return _BUILDERS[root](situation, topic)


def _optional(name: str, value: object) -> Table | None:
    kept = clean(value)
    return Table({name: kept}) if kept is not None else None


def _language(turn: Turn) -> str:
    for utterance in reversed(turn.utterances):
        if utterance.understanding is not None:
            return "en" if utterance.understanding.language == "en" else "zh"
    return "zh"
