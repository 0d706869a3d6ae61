"""How good and how fast matching is on labelled messages: the figures of ``huoji evaluate``.

Source: the contracts page, section 6; the measurements on matching, metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.clock import SystemClock
from app.domain.knowledge import Answer, Entry, Snapshot, SynonymGroup
from app.domain.matching import Match
from app.intents.fitted import fit
from app.intents.matcher import Matcher, Scope, shipped_thresholds
from app.intents.normalise import Normaliser

__all__ = [
    "AutoFigures",
    "Evaluation",
    "LabelledQuery",
    "Prediction",
    "auroc",
    "coverage_at",
    "evaluate",
    "read_queries",
    "snapshot_of",
]

_LEAST_ANSWERED: Final = 20
_SCOPE: Final = Scope(shop_id="", channel="", now_ms=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledQuery:
    """A message and every intent that is a right answer to it; none: the knowledge holds no answer."""

    text: str
    right: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was said about one query."""

    text: str
    ranked: tuple[tuple[str, float], ...]
    confidence: float
    band: str

    def to_wire(self) -> dict[str, Any]:
        """Return the line of the predictions file."""
        return {
            "text": self.text,
            "ranked": [[intent, score] for intent, score in self.ranked],
            "confidence": self.confidence,
            "band": self.band,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoFigures:
    """What happens at the shipped threshold; coverage over the queries in scope."""

    threshold: float
    answered: int
    correct: int
    wrong: int
    precision: float
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The figures, and the predictions they come from. Shares are 0–1; 0 where nothing can be counted."""

    queries: int
    in_scope: int
    out_of_scope: int
    top1: float
    recall_at_3: float
    mrr: float
    oos_auroc: float
    coverage_at_precision_95: float
    coverage_at_precision_98: float
    auto: AutoFigures
    build_seconds: float
    micros_p50: float
    micros_p99: float
    predictions: tuple[Prediction, ...]

    def to_wire(self) -> dict[str, Any]:
        """Return the contract's JSON document (without the predictions)."""
        return {
            "queries": self.queries,
            "in_scope": self.in_scope,
            "out_of_scope": self.out_of_scope,
            "top1": self.top1,
            "recall_at_3": self.recall_at_3,
            "mrr": self.mrr,
            "oos_auroc": self.oos_auroc,
            "coverage_at_precision_95": self.coverage_at_precision_95,
            "coverage_at_precision_98": self.coverage_at_precision_98,
            "auto": {
                "threshold": self.auto.threshold,
                "answered": self.auto.answered,
                "correct": self.auto.correct,
                "wrong": self.auto.wrong,
                "precision": self.auto.precision,
                "coverage": self.auto.coverage,
            },
            "build_seconds": self.build_seconds,
            "micros_per_query": {"p50": self.micros_p50, "p99": self.micros_p99},
        }


def snapshot_of(kb_rows: Sequence[Mapping[str, Any]], synonyms: Sequence[SynonymGroup] = ()) -> Snapshot:
    """Return a knowledge base of one entry for each intent of ``{"intent", "text"}`` rows, in order of appearance.

    Raises:
        ValueError: a row lacks a key or holds no text; the message gives its number, from 1.
    """
    texts: dict[str, list[str]] = {}
    for number, row in enumerate(kb_rows, start=1):
        intent, text = row.get("intent"), row.get("text")
        if not isinstance(intent, str) or not intent or not isinstance(text, str):
            raise ValueError(f"line {number}: intent and text must be texts")
        texts.setdefault(intent, []).append(text)
    entries = tuple(
        Entry(
            id=intent,
            topic=intent,
            category="evaluation",
            question=phrasings[0],
            variants=tuple(phrasings[1:]),
            default=Answer(text=None),
        )
        for intent, phrasings in texts.items()
    )
    return Snapshot(version=0, entries=entries, synonyms=tuple(synonyms))


def read_queries(query_rows: Sequence[Mapping[str, Any]]) -> tuple[LabelledQuery, ...]:
    """Return the queries of ``{"text", "intent", "alt"?, "ambiguous"?}`` rows; ambiguous ones are left out.

    Raises:
        ValueError: a row is not of that shape; the message gives its number, from 1.
    """
    queries: list[LabelledQuery] = []
    for number, row in enumerate(query_rows, start=1):
        text, intent, others = row.get("text"), row.get("intent"), row.get("alt") or ()
        if not isinstance(text, str) or not (intent is None or isinstance(intent, str)):
            raise ValueError(f"line {number}: text must be a text, intent a text or null")
        if row.get("ambiguous"):
            continue
        right = frozenset[str]() if intent is None else frozenset({intent, *others})
        queries.append(LabelledQuery(text=text, right=right))
    return tuple(queries)


def evaluate(
    kb_rows: Sequence[Mapping[str, Any]],
    query_rows: Sequence[Mapping[str, Any]],
    *,
    synonyms: Sequence[SynonymGroup] = (),
    monotonic: Callable[[], float] | None = None,
) -> Evaluation:
    """Match every query with the server's code and count. Learns from the knowledge rows only.

    Args:
        kb_rows: the knowledge base, ``{"intent", "text"}``.
        query_rows: the labelled messages, ``{"text", "intent", "alt"?, "ambiguous"?}``.
        synonyms: groups of the shop, beside the shipped concepts.
        monotonic: seconds, for the speed figures; None for the machine's clock.

    Raises:
        ValueError: a row is malformed.
    """
    snapshot = snapshot_of(kb_rows, synonyms)
    queries = read_queries(query_rows)
    normaliser = Normaliser()
    monotonic = monotonic or SystemClock().monotonic
    began = monotonic()
    matcher = Matcher(snapshot, fit(snapshot, normaliser=normaliser), normaliser=normaliser)
    build_seconds = monotonic() - began
    matches: list[Match] = []
    micros: list[float] = []
    for query in queries:
        began = monotonic()
        matches.append(matcher.rank(query.text, scope=_SCOPE))
        micros.append((monotonic() - began) * 1e6)
    return _figures(queries, matches, micros, build_seconds)


def _figures(
    queries: Sequence[LabelledQuery], matches: Sequence[Match], micros: list[float], build_seconds: float
) -> Evaluation:
    places = [_place(query, match) for query, match in zip(queries, matches, strict=True)]
    confidences = [match.confidence for match in matches]
    right = [place == 1 for place in places]
    known = [bool(query.right) for query in queries]
    in_scope = sum(known)
    inside = [place for place, is_known in zip(places, known, strict=True) if is_known]
    micros.sort()
    return Evaluation(
        queries=len(queries),
        in_scope=in_scope,
        out_of_scope=len(queries) - in_scope,
        top1=_share(sum(place == 1 for place in inside), in_scope),
        recall_at_3=_share(sum(place > 0 for place in inside), in_scope),
        mrr=_share(sum(1 / place for place in inside if place), in_scope),
        oos_auroc=auroc(confidences, known),
        coverage_at_precision_95=coverage_at(0.95, confidences, right, known),
        coverage_at_precision_98=coverage_at(0.98, confidences, right, known),
        auto=_auto(confidences, right, known),
        build_seconds=build_seconds,
        micros_p50=_percentile(micros, 0.50),
        micros_p99=_percentile(micros, 0.99),
        predictions=tuple(
            Prediction(
                text=query.text,
                ranked=tuple((candidate.entry_id, candidate.score) for candidate in match.ranked),
                confidence=match.confidence,
                band=match.band.value,
            )
            for query, match in zip(queries, matches, strict=True)
        ),
    )


def _place(query: LabelledQuery, match: Match) -> int:
    """Return the place of the first right candidate, from 1; 0 when none is among the ranked."""
    for place, candidate in enumerate(match.ranked, start=1):
        if candidate.entry_id in query.right:
            return place
    return 0


def _auto(confidences: Sequence[float], right: Sequence[bool], known: Sequence[bool]) -> AutoFigures:
    threshold = shipped_thresholds().answer_at
    answered = [at for at, confidence in enumerate(confidences) if confidence >= threshold]
    correct = sum(right[at] for at in answered)
    return AutoFigures(
        threshold=threshold,
        answered=len(answered),
        correct=correct,
        wrong=len(answered) - correct,
        precision=_share(correct, len(answered)),
        coverage=_share(sum(known[at] for at in answered), sum(known)),
    )


def coverage_at(
    precision: float, confidences: Sequence[float], right: Sequence[bool], known: Sequence[bool]
) -> float:
    """Return the largest share of in-scope queries that is answered at a threshold of at least this precision.

    Thresholds lie only between different confidences, and at least 20 must be answered; 0 when none qualifies.

    Args:
        precision: least correct / answered, over everything answered.
        confidences, right, known: for each query, in the same order: the confidence, whether the best entry is right
            (never for a query out of scope), whether the query is in scope.
    """
    order = sorted(range(len(confidences)), key=lambda at: -confidences[at])
    best = correct = inside = 0
    for answered, at in enumerate(order, start=1):
        correct += right[at]
        inside += known[at]
        tied = answered < len(order) and confidences[order[answered]] == confidences[at]
        if not tied and answered >= _LEAST_ANSWERED and correct / answered >= precision:
            best = inside
    return _share(best, sum(known))


def auroc(confidences: Sequence[float], positive: Sequence[bool]) -> float:
    """Return the chance that a positive has a higher confidence than a negative, ties counting half.

    0 when there are only positives or only negatives.
    """
    order = sorted(range(len(confidences)), key=confidences.__getitem__)
    positives = sum(positive)
    negatives = len(positive) - positives
    if not positives or not negatives:
        return 0.0
    ranks = 0.0
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and confidences[order[last + 1]] == confidences[order[first]]:
            last += 1
        ranks += ((first + last) / 2 + 1) * sum(positive[order[index]] for index in range(first, last + 1))
        first = last + 1
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _share(count: float, of: int) -> float:
    return count / of if of else 0.0
