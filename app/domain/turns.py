"""A turn (what the reply policy is asked) and a decision (what it says): plain data on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from app.core.values import value
from app.domain.conversations import Conversation, Memory, Priority
from app.domain.knowledge import CaseSpec, Snapshot
from app.domain.matching import Match, Understanding
from app.domain.messages import Content
from app.domain.orders import OrderView
from app.domain.shops import ShopPolicy

__all__ = [
    "Applied",
    "Decision",
    "DecisionKind",
    "Escalation",
    "NeedOrders",
    "Reply",
    "Suggestion",
    "Turn",
    "Utterance",
]


@value(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One message of the burst. ``understanding`` is None for anything that isn't text."""

    message_id: int
    external_id: str
    content: Content
    received_at_ms: int
    understanding: Understanding | None = None
    order_id: str | None = None
    product_id: str | None = None


@value(frozen=True, slots=True, kw_only=True)
class Turn:
    """Everything one decision may depend on.

    ``orders`` is None until they have been looked up; a decision that needs them answers ``NeedOrders`` first.
    ``online_groups``: groups with at least one agent online. ``has_open_escalation``: never open a second one.
    """

    utterances: tuple[Utterance, ...]
    conversation: Conversation
    memory: Memory
    shop: ShopPolicy
    snapshot: Snapshot
    now_ms: int
    orders: OrderView | None = None
    has_open_escalation: bool = False
    open_cases: tuple[Mapping[str, object], ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Overrides of built-in texts for this shop, by text id."""


@value(frozen=True, slots=True, kw_only=True)
class NeedOrders:
    """Look up orders and ask again: the buyer's list, and ``order_id`` by itself where one was named.

    ``trusted`` is True when the platform attached the order, False when the buyer typed its number.
    """

    order_id: str | None = None
    trusted: bool = False


class DecisionKind(StrEnum):
    """What happened to a turn, in one word."""

    ANSWER = "answer"
    ASK = "ask"
    ESCALATE = "escalate"
    SUGGEST = "suggest"
    SILENT = "silent"


@value(frozen=True, slots=True, kw_only=True)
class Reply:
    """A text to send. ``node`` names what produced it: an entry id, a built-in text id, or both joined by '+'."""

    text: str
    author: str = "bot"
    node: str = ""


@value(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """An answer offered to a human, already filled in; ``score`` 0–1."""

    entry_id: str
    title: str
    text: str
    score: float


@value(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Hand over to a human: to which group, why (rule id and a reason code), how soon.

    ``raises_open``: one is open already; this makes it more urgent or moves it, and must not open another.
    """

    group: str
    rule: str
    reason: str
    priority: Priority = Priority.NORMAL
    major: bool = False
    ignore_hours: bool = False
    raises_open: bool = False


@value(frozen=True, slots=True, kw_only=True)
class Applied:
    """An entry (or a rule's topic) that was applied to one question of the turn."""

    entry_id: str
    topic: str
    confidence: float


@value(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do about a turn. Nothing here has happened yet.

    ``memory`` is the conversation's memory after the turn. ``matches`` are kept for the record, with ``why`` as short
    machine-readable reasons in order (rule ids, guards, conditions).
    """

    kind: DecisionKind
    memory: Memory
    replies: tuple[Reply, ...] = ()
    applied: tuple[Applied, ...] = ()
    matches: tuple[Match, ...] = ()
    escalation: Escalation | None = None
    case: CaseSpec | None = None
    suggestions: tuple[Suggestion, ...] = ()
    order_id: str | None = None
    stage: str = "dialogue"
    tags: tuple[str, ...] = ()
    log_codes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
