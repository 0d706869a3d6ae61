"""What became of one question of a turn, before all of them are put together into a decision."""

from __future__ import annotations

from enum import StrEnum

from app.core.values import value
from app.domain.knowledge import CaseSpec
from app.domain.turns import Applied
from app.replies.rules import Rule

__all__ = ["OrdersWanted", "Outcome", "OutcomeKind", "Saying"]


class OrdersWanted(Exception):  # noqa: N818 (a question, not a failure)
    """Deciding needs the orders; caught at the top and turned into ``NeedOrders``."""

    def __init__(self, order_id: str | None, *, trusted: bool) -> None:
        super().__init__(order_id)
        self.order_id = order_id
        self.trusted = trusted


class OutcomeKind(StrEnum):
    """What to do about one question."""

    ANSWER = "answer"
    ASK = "ask"
    ESCALATE = "escalate"
    UNKNOWN = "unknown"
    SILENT = "silent"


@value(frozen=True, slots=True)
class Saying:
    """A piece of text: filled in, as its template was written, and what it came from."""

    text: str
    source: str
    node: str
    generic: bool = False
    """Only says that a colleague comes; wrong when nobody is on duty."""


@value(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One question's result. ``group`` is set only where an entry or a rule names one; else the stage decides."""

    kind: OutcomeKind
    sayings: tuple[Saying, ...] = ()
    applied: Applied | None = None
    topic: str | None = None
    rule: Rule | None = None
    reason: str = ""
    group: str | None = None
    case: CaseSpec | None = None
    title: str = ""
    social: bool = False
