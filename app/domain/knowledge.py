"""The knowledge base as the matcher and the reply policy see it: immutable, versioned.

Source: the contracts page, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from app.core.values import value

__all__ = [
    "Answer",
    "AnswerMode",
    "CaseSpec",
    "Condition",
    "Entry",
    "LocalisedEntry",
    "Snapshot",
    "SynonymGroup",
]


class AnswerMode(StrEnum):
    """What an answer may do: be sent, be suggested to a human, or go out as collecting text before a human."""

    AUTO = "auto"
    SUGGEST = "suggest"
    ESCALATE = "escalate"


@value(frozen=True, slots=True, kw_only=True)
class CaseSpec:
    """A case to open: its kind, and fields (values may be templates)."""

    kind: str
    fields: Mapping[str, str] = field(default_factory=dict[str, str])


@value(frozen=True, slots=True, kw_only=True)
class Condition:
    """When an answer holds; every key that is set must hold. Empty: always.

    ``trace_older_than_s`` in seconds; ``time`` as minutes after midnight in shop time, (from, to), to may be < from.
    """

    order_status: frozenset[str] = frozenset()
    product: frozenset[str] = frozenset()
    tier: frozenset[str] = frozenset()
    channel: frozenset[str] = frozenset()
    order_overdue: bool | None = None
    promo: bool | None = None
    trace_older_than_s: int | None = None
    time: tuple[int, int] | None = None


@value(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of an entry: a Liquid template, and what to do with it. ``text`` None: nothing to say."""

    text: str | None
    mode: AnswerMode = AnswerMode.AUTO
    group: str | None = None
    case: CaseSpec | None = None
    when: Condition | None = None


@value(frozen=True, slots=True, kw_only=True)
class LocalisedEntry:
    """An entry's words in another language than the base's (zh)."""

    question: str
    variants: tuple[str, ...]
    answer: str | None


@value(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing buyers ask, with its phrasings and answers.

    ``answers`` are conditional and tried in order; ``default`` is used when none holds. ``topic`` is the intent id on
    which handlers hang. ``shops``, ``channels``, ``languages`` empty: everywhere. Validity in milliseconds UTC.
    """

    id: str
    topic: str
    category: str
    question: str
    variants: tuple[str, ...]
    default: Answer
    answers: tuple[Answer, ...] = ()
    needs: frozenset[str] = frozenset()
    fallback: str | None = None
    texts: Mapping[str, LocalisedEntry] = field(default_factory=dict[str, LocalisedEntry])
    shops: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    valid_from_ms: int | None = None
    valid_until_ms: int | None = None
    priority: int = 0

    def is_in_scope(self, *, shop_id: str, channel: str, now_ms: int) -> bool:
        """Whether this entry applies to a shop and channel at an instant."""
        return (
            (not self.shops or shop_id in self.shops)
            and (not self.channels or channel in self.channels)
            and (self.valid_from_ms is None or now_ms >= self.valid_from_ms)
            and (self.valid_until_ms is None or now_ms < self.valid_until_ms)
        )


@value(frozen=True, slots=True, kw_only=True)
class SynonymGroup:
    """Words that mean the same to this shop; matching treats a hit of any as the concept ``id``."""

    id: str
    words: tuple[str, ...]


@value(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A published version of the whole knowledge base. Never changes; publishing makes another."""

    version: int
    entries: tuple[Entry, ...]
    synonyms: tuple[SynonymGroup, ...] = ()
    by_id: Mapping[str, Entry] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {entry.id: entry for entry in self.entries})
