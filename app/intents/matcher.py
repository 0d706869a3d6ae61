"""The matcher: a buyer's message in, ranked entries with a calibrated confidence out.

One matcher serves one version of the knowledge base and never changes; publishing makes another. It may be called from
several threads.

Source: the design page, section 6; the domain rules on text handling and on bursts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.core.clock import SystemClock
from app.domain.knowledge import Snapshot
from app.domain.matching import Band, Candidate, Match, Thresholds, Understanding
from app.intents.clauses import Clause, clauses_of, content_clauses, is_fragment
from app.intents.features import features_of
from app.intents.fitted import FittedIndex, fit
from app.intents.fusion import FusionModel, shipped_model, shipped_thresholds
from app.intents.grams import JOINT
from app.intents.normalise import Normaliser, is_social, language_of
from app.intents.signs import undoes

__all__ = ["Matcher", "Scope", "build_matcher", "credence", "joined", "shipped_thresholds"]

_SHOWN: Final = 3
_ANSWER: Final = Band.ANSWER
"""By its own name: reading an enumeration's member is slow."""
_UNDERSTOOD: Final = 2_048
_RANKED: Final = 8_192
"""More than messages as written, of which several have the same content."""
_LONGEST_CACHED: Final = 64
_LONG_TEXT: Final = 500
_MOST_QUESTIONS: Final = 5
_SHORTEST_QUESTION: Final = 3
_VETOED: Final = 0.05
_HALVED: Final = 0.5

_Ranked: TypeAlias = tuple[tuple[Candidate, ...], float]
_Known: TypeAlias = tuple[str, str, tuple[Match, ...], bool, bool]
"""An understanding without its text and time: normalised, language, questions, social, complete."""
_Allowed: TypeAlias = NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where and when a message arrived: entries out of scope are not found. ``thresholds`` None: the shipped ones."""

    shop_id: str
    channel: str
    now_ms: int
    thresholds: Thresholds | None = None


class Matcher:
    """Understands messages against one snapshot."""

    def __init__(
        self,
        snapshot: Snapshot,
        fitted: FittedIndex,
        *,
        normaliser: Normaliser | None = None,
        model: FusionModel | None = None,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        """Make a matcher.

        Args:
            snapshot: the knowledge to match against.
            fitted: what ``fit`` learned from this very snapshot.
            normaliser: shared with others, or None for its own.
            model: the fusion; None for the shipped one.
            monotonic: seconds, for the time taken; None for the machine's clock.

        Raises:
            ValueError: ``fitted`` was learned from other entries.
        """
        if fitted.entry_ids != tuple(entry.id for entry in snapshot.entries):
            raise ValueError("the fitted index belongs to another version of the knowledge")
        self.version = snapshot.version
        self._snapshot = snapshot
        self._fitted = fitted
        self._normaliser = normaliser or Normaliser()
        self._model = model or shipped_model()
        self._gates = {
            language: self._model.of(language).gate.of_vocabulary(index.buckets)
            for language, index in fitted.languages.items()
        }
        self._monotonic = monotonic or SystemClock().monotonic
        self._scoped = tuple(
            number
            for number, entry in enumerate(snapshot.entries)
            if entry.shops
            or entry.channels
            or entry.valid_from_ms is not None
            or entry.valid_until_ms is not None
        )
        self._ranked = lru_cache(maxsize=_RANKED)(self._rank)
        self._understood = lru_cache(maxsize=_UNDERSTOOD)(self._understand)

    def understand(self, text: str, *, scope: Scope) -> Understanding:
        """Take a message apart into its questions and rank the entries for each. Never raises, whatever the text."""
        began = self._monotonic()
        find = self._understood if len(text) <= _LONGEST_CACHED else self._understand
        normalised, language, questions, social, complete = find(
            text, self._excluded(scope), scope.thresholds or self._model.thresholds
        )
        return Understanding(
            text=text,
            normalised=normalised,
            language=language,
            questions=questions,
            social=social,
            complete=complete,
            micros=int((self._monotonic() - began) * 1e6),
        )

    def _understand(self, text: str, excluded: frozenset[int], thresholds: Thresholds) -> _Known:
        clauses = clauses_of(text, self._normaliser)
        content = content_clauses(clauses)
        whole = joined(content)
        # Content is what isn't courtesy, or everything when there is nothing else.
        social = (
            bool(clauses)
            and len(content) == len(clauses)
            and is_social(clauses[0].normalised)
            and all(is_social(one.normalised) for one in clauses[1:])
        )
        if not whole:
            questions: tuple[Match, ...] = ()
        elif len(text) > _LONG_TEXT:
            questions = self._of_long_text(content, excluded, thresholds)
        else:
            questions = self._questions(text, content, whole, excluded, thresholds)
        sure = _ANSWER in [match.band for match in questions]
        return (
            whole,
            language_of(whole or text),
            questions,
            social,
            not social and (sure or not is_fragment(text, whole)),
        )

    def rank(self, text: str, *, scope: Scope) -> Match:
        """Rank the entries for the whole text as one question. Never raises, whatever the text."""
        whole = joined(content_clauses(clauses_of(text, self._normaliser)))
        return self._match(text, whole, self._excluded(scope), scope.thresholds or self._model.thresholds)

    def _questions(
        self, text: str, content: list[Clause], whole: str, excluded: frozenset[int], thresholds: Thresholds
    ) -> tuple[Match, ...]:
        candidates = (
            [clause for clause in content if len(clause.normalised) >= _SHORTEST_QUESTION]
            if len(content) > 1
            else content
        )
        if len(candidates) > 1:
            distinct: dict[str, Match] = {}
            for clause in candidates:
                part = self._match(clause.text, clause.normalised, excluded, thresholds)
                if part.band is _ANSWER and part.best is not None:
                    distinct.setdefault(part.best.entry_id, part)
            if len(distinct) > 1:
                return tuple(distinct.values())[:_MOST_QUESTIONS]
        return (self._match(text.strip(), whole, excluded, thresholds),)

    def _of_long_text(
        self, content: list[Clause], excluded: frozenset[int], thresholds: Thresholds
    ) -> tuple[Match, ...]:
        distinct: dict[str, Match] = {}
        for clause in content:
            match = self._match(clause.text, clause.normalised, excluded, thresholds)
            if match.best is None:
                continue
            before = distinct.get(match.best.entry_id)
            if before is None or before.confidence < match.confidence:
                distinct[match.best.entry_id] = match
        ranked = sorted(distinct.values(), key=lambda match: -match.confidence)
        sure = [match for match in ranked if match.band is _ANSWER]
        return tuple((sure or ranked[:1])[:_MOST_QUESTIONS])

    def _match(self, text: str, whole: str, excluded: frozenset[int], thresholds: Thresholds) -> Match:
        if not whole:
            return Match(text=text, ranked=(), confidence=0.0, band=Band.UNKNOWN)
        find = self._ranked if len(whole) <= _LONGEST_CACHED else self._rank
        ranked, confidence = find(whole, excluded)
        return Match(text=text, ranked=ranked, confidence=confidence, band=thresholds.band(confidence))

    def _rank(self, whole: str, excluded: frozenset[int]) -> _Ranked:
        language = language_of(whole)
        index = self._fitted.languages.get(language)
        if index is None:
            return (), 0.0
        hits = index.search(whole, self._allowed(excluded))
        if hits is None:
            return (), 0.0
        fusion = self._model.of(language)
        gate = fusion.gate.score(self._gates[language], hits.known, hits.unknown_tokens)
        found = hits.found
        chances = fusion.probabilities(features_of(index, hits, whole, gate))
        order = sorted(range(len(chances)), key=chances.__getitem__, reverse=True)[:_SHOWN]
        ids, numbers, phrasings = self._fitted.entry_ids, index.entry_numbers, index.phrasings
        ranked = tuple(
            [
                Candidate(
                    entry_id=ids[numbers[found[at].place]],
                    score=chances[at],
                    variant=phrasings[found[at].variant].text,
                )
                for at in order
            ]
        )
        best = order[0]
        return ranked, chances[best] * credence(whole, phrasings[found[best].variant].normalised)

    def _excluded(self, scope: Scope) -> frozenset[int]:
        if not self._scoped:
            return frozenset()
        entries = self._snapshot.entries
        return frozenset(
            number
            for number in self._scoped
            if not entries[number].is_in_scope(
                shop_id=scope.shop_id, channel=scope.channel, now_ms=scope.now_ms
            )
        )

    def _allowed(self, excluded: frozenset[int]) -> _Allowed:
        if not excluded:
            return None
        allowed = np.ones(len(self._snapshot.entries), dtype=np.bool_)
        allowed[list(excluded)] = False
        return allowed


def credence(text: str, phrasing: str) -> float:
    """Return what share of a confidence remains, given what the nearest phrasing can't mean, however alike they look.

    Little when the normalised text undoes what the phrasing asks for, or says more than the courtesy that the phrasing
    is. Half for a bare word that isn't a phrasing as it stands: good enough to ask back about, never to answer.
    """
    undone = undoes(text)
    if undone and not undone <= undoes(phrasing):
        return _VETOED
    if len(text) - len(phrasing) > 2 and is_social(phrasing) and not is_social(text):
        return _VETOED
    return _HALVED if len(text) < _SHORTEST_QUESTION and text != phrasing else 1.0


def build_matcher(snapshot: Snapshot) -> Matcher:
    """Fit a snapshot and return its matcher; for tests, evaluation and commands. A server loads a stored fit."""
    normaliser = Normaliser()
    return Matcher(snapshot, fit(snapshot, normaliser=normaliser), normaliser=normaliser)


def joined(clauses: list[Clause]) -> str:
    """Return the comparable form of several clauses together."""
    if len(clauses) == 1:
        return clauses[0].normalised
    parts = [clause.normalised for clause in clauses]
    separator = JOINT if any(language_of(part) == "zh" for part in parts) else " "
    return separator.join(parts)
