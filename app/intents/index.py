"""One language's phrasings as an inverted index in plain arrays, and the search over it.

Phrasings are sorted by entry, so an entry's are one slice. Everything a search touches is bounded: postings by a
budget (rarest tokens first), the classifier by the number of entries.

Source: the measurements on matching, recommended algorithm; the performance page, matching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import log
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from app.intents.bitrows import BitRows, bytes_needed
from app.intents.gate import buckets_of
from app.intents.grams import Lexicon, Tokens, chinese_tokens, latin_tokens, token_weight
from app.intents.linear import LARGEST_CELLS, LARGEST_VARIANTS, fit_weights
from app.intents.postings import Postings
from app.intents.signs import signs_of

__all__ = ["CANDIDATES", "Hit", "Hits", "LanguageIndex", "Phrasing", "fit_language"]

CANDIDATES: Final = 4
"""Entries that are weighed."""
_SHORTLIST: Final = 6
"""Entries that the classifier puts forward; the candidates are those of them that come nearest."""
_NEAREST_SHARE: Final = 0.5
_DIFFERING: Final = 4_096

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]
Places: TypeAlias = NDArray[np.intp]


class Phrasing(NamedTuple):
    """One phrasing of an entry: which entry (its number), as written, and made comparable."""

    entry: int
    text: str
    normalised: str


class Hit(NamedTuple):
    """One entry found: its place in the index, the slice of its phrasings, and how near it is."""

    place: int
    variant: int
    """The nearest phrasing."""
    linear: float
    """The classifier's score (the mean of the phrasings' cosines where there is no classifier)."""
    nearest: float
    """The cosine of the nearest phrasing."""
    nearest_three: float
    """The mean cosine of the three nearest."""
    covers: float
    """Share of the text's weight that any phrasing of the entry holds."""
    covers_concepts: float
    """The same over its concepts only; 1 when it has none."""


class Hits(NamedTuple):
    """What a search found: at most ``CANDIDATES`` entries, best first, and what the features need of the text."""

    found: list[Hit]
    tokens: list[str]
    known: list[int]
    """The numbers of those tokens that some phrasing holds."""
    unknown_tokens: list[str]
    concepts: int
    """How many concepts the text holds."""
    mass: float
    """Squared weight of its known tokens."""
    unknown: float
    """Squared weight of its unknown tokens."""
    unknown_characters: float
    """Share of its distinct characters that no phrasing holds."""


@dataclass(slots=True, kw_only=True)
class LanguageIndex:
    """The index. Build it with ``fit_language``, or from stored arrays; treat it as immutable."""

    language: str
    phrasings: tuple[Phrasing, ...]
    vocabulary: tuple[str, ...]
    weights: Floats
    """A token's rarity times the weight of its kind."""
    offsets: Ints
    """Where each token's postings begin; one longer than the vocabulary."""
    documents: Ints
    buckets: NDArray[np.uint16]
    """Each token's bucket in the gate."""
    shown: Floats
    """Share of an entry's phrasings that show each sign; shape (entries, signs)."""
    linear: NDArray[np.int8] | None
    linear_scales: Floats
    lexicon: Lexicon
    number_of: dict[str, int] = field(init=False)
    entry_numbers: tuple[int, ...] = field(init=False)
    """The snapshot's entry number by place in this index."""
    entries: Places = field(init=False)
    bounds: list[int] = field(init=False)
    """Where each entry's phrasings begin; one longer than the entries."""
    keys: list[tuple[str, float, float]] = field(init=False)
    """Of each phrasing: its normalised text, the logarithm of its length and one, its norm."""
    differing: Callable[[int, tuple[float, ...]], tuple[float, ...]] = field(init=False)
    """From an entry's place and a text's signs to how far each is from the entry's usual one."""
    _tokens: Callable[[str, Lexicon], Tokens] = field(init=False)
    _bits: BitRows | None = field(init=False)
    """With a classifier."""
    _postings: Postings | None = field(init=False)
    """Without one."""
    _squares: Floats = field(init=False)
    """Weights squared."""
    _factors: Floats = field(init=False)
    """Weights times the classifier's scales."""
    _unknown_weight: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = chinese_tokens if self.language == "zh" else latin_tokens
        self.number_of = {token: number for number, token in enumerate(self.vocabulary)}
        of_entry = np.array([phrasing.entry for phrasing in self.phrasings], dtype=np.intp)
        bounds = np.r_[0, np.flatnonzero(of_entry[1:] != of_entry[:-1]) + 1, len(of_entry)]
        self.bounds = bounds.tolist()
        self.entries = of_entry[bounds[:-1]]
        self.entry_numbers = tuple(self.entries.tolist())
        self.differing = lru_cache(_DIFFERING)(partial(_differing, self.shown.tolist()))
        self._unknown_weight = float(np.log(len(self.phrasings) + 1.0) + 1.0) * 0.9
        squares = self._squares = self.weights * self.weights
        documents = self.documents.astype(np.intp)
        lengths = np.diff(self.offsets)
        summed = np.bincount(
            documents, np.repeat(squares.astype(np.float64), lengths), minlength=len(of_entry)
        )
        norms = np.sqrt(summed)
        self.keys = [
            (phrasing.normalised, log(len(phrasing.normalised) + 1), norm)
            for phrasing, norm in zip(self.phrasings, norms.tolist(), strict=True)
        ]
        self._bits = self._postings = None
        if self.linear is None:
            self._factors = self.weights
            self._postings = Postings(documents, self.offsets.tolist(), 1 / norms, bounds)
        else:
            self._factors = self.weights * self.linear_scales
            token_of = np.repeat(np.arange(len(self.vocabulary)), lengths)
            self._bits = BitRows.of(token_of, documents, bounds, 1 / norms, token_count=len(self.vocabulary))

    def search(self, text: str, allowed: NDArray[np.bool_] | None = None) -> Hits | None:
        """Return the entries nearest to a normalised text, or None when no phrasing shares a token with it.

        Args:
            text: normalised.
            allowed: by entry number of the snapshot, whether the entry may be found; None for all.
        """
        tokens, characters, named = self._tokens(text, self.lexicon)
        looked_up = [*map(self.number_of.get, tokens)]
        unknown = looked_up.count(None)
        missing = 0
        unknown_tokens: list[str] = []
        concepts = named
        if unknown:
            missing = looked_up[:characters].count(None)
            concepts -= looked_up[len(tokens) - named :].count(None)
            known = [number for number in looked_up if number is not None]
            if not known:
                return None
            unknown_tokens = [
                token for token, number in zip(tokens, looked_up, strict=True) if number is None
            ]
        else:
            known = cast("list[int]", looked_up)
        numbers = np.array(known, dtype=np.intp)
        squares = self._squares.take(numbers)
        mass = sum(squares.tolist())
        if allowed is not None:
            allowed = allowed[self.entries]
        if self._bits is not None and self.linear is not None:
            found = self._by_classifier(self._bits, self.linear, numbers, squares, mass, concepts, allowed)
        else:
            found = self._by_postings(known, squares, mass, allowed)
        if not found:
            return None
        return Hits(
            found,
            tokens,
            known,
            unknown_tokens,
            named,
            mass,
            unknown * self._unknown_weight**2,
            missing / max(characters, 1),
        )

    def _by_classifier(
        self,
        bits: BitRows,
        classifier: NDArray[np.int8],
        numbers: Places,
        squares: Floats,
        mass: float,
        concepts: int,
        allowed: NDArray[np.bool_] | None,
    ) -> list[Hit]:
        """Look closely at the entries that the classifier puts forward. ``concepts``: how many stand last."""
        scores = self._factors.take(numbers).dot(classifier.take(numbers, axis=0).astype(np.float32))
        if allowed is not None:
            scores[~allowed] = -np.inf
        lines, places = _best(scores, _SHORTLIST)
        begins, nearness, conceptual = bits.weigh(numbers, places, squares, concepts)
        bounds = self.bounds
        close: list[tuple[float, float, int, int, float, list[float]]] = []
        for line, place, begin in zip(lines, places, begins, strict=True):
            begin += 1
            low = bounds[place]
            near = nearness[begin : begin + bounds[place + 1] - low]
            top = max(near)
            close.append((line + _NEAREST_SHARE * top, line, place, begin, top, near))
        close.sort(reverse=True)
        # Scores stay multiplied by the text's length (the root of its mass) until here.
        length = mass**0.5
        in_concepts = sum(squares[-concepts:].tolist()) if conceptual is not None else 0.0
        found: list[Hit] = []
        for score, line, place, begin, top, near in close[:CANDIDATES]:
            if score <= 0:
                break
            found.append(
                Hit(
                    place,
                    bounds[place] + near.index(top),
                    line / length,
                    top / length,
                    _mean_of_three(near) / length,
                    nearness[begin - 1] / mass,
                    1.0 if conceptual is None else conceptual[begin - 1] / in_concepts,
                )
            )
        return found

    def _by_postings(
        self, known: list[int], squares: Floats, mass: float, allowed: NDArray[np.bool_] | None
    ) -> list[Hit]:
        """Look closely at the entries with the nearest phrasings; for more phrasings than a classifier is fitted on."""
        postings = cast(Postings, self._postings)
        similarity = postings.similarity(known, squares)
        means, order = postings.by_entry(similarity)
        if allowed is not None:
            order[~allowed] = -np.inf
        length = mass**0.5
        bounds = self.bounds
        found: list[Hit] = []
        for score, place in sorted(zip(*_best(order, CANDIDATES), strict=True), reverse=True):
            if score <= 0:
                break
            low = bounds[place]
            near = similarity[low : bounds[place + 1]].tolist()
            top = max(near)
            variant = low + near.index(top)
            line = float(means[place])
            found.append(
                Hit(place, variant, line / length, top / length, _mean_of_three(near) / length, 1.0, 1.0)
            )
        return found


def _best(scores: NDArray[np.floating[Any]], count: int) -> tuple[list[float], list[int]]:
    """Return the best ``count`` scores (of what isn't allowed: minus infinity) and their places, in any order."""
    best = scores.argpartition(-count)[-count:] if len(scores) > count else np.arange(len(scores))
    return scores.take(best).tolist(), best.tolist()


def _differing(usual: list[list[float]], place: int, signs: tuple[float, ...]) -> tuple[float, ...]:
    """Return how far each of a text's signs is from the usual one of the entry at ``place``."""
    return tuple([abs(sign - one) for sign, one in zip(signs, usual[place], strict=True)])


def _mean_of_three(near: list[float]) -> float:
    if len(near) <= 3:
        return sum(near) / len(near)
    near.sort()
    return (near[-1] + near[-2] + near[-3]) / 3


def fit_language(language: str, phrasings: Sequence[Phrasing], lexicon: Lexicon) -> LanguageIndex:
    """Build the index of one language from its phrasings (at least one), in any order; about 1 s for 1,500."""
    ordered = tuple(sorted(phrasings, key=lambda phrasing: phrasing.entry))
    split = chinese_tokens if language == "zh" else latin_tokens
    number_of: dict[str, int] = {}
    rows: list[list[int]] = []
    for phrasing in ordered:
        rows.append(
            [number_of.setdefault(token, len(number_of)) for token in split(phrasing.normalised, lexicon)[0]]
        )
    vocabulary = tuple(number_of)
    sizes = np.array([len(row) for row in rows])
    tokens = np.fromiter((number for row in rows for number in row), dtype=np.int32, count=int(sizes.sum()))
    documents = np.repeat(np.arange(len(rows), dtype=np.int32), sizes)
    frequency = np.bincount(tokens, minlength=len(vocabulary))
    kinds = np.fromiter(map(token_weight, vocabulary), dtype=np.float64, count=len(vocabulary))
    weights = ((np.log((len(rows) + 1) / (frequency + 1)) + 1) * kinds).astype(np.float32)
    values = weights[tokens]
    norms = np.sqrt(np.bincount(documents, values.astype(np.float64) ** 2, minlength=len(rows)))
    values = (values / norms[documents]).astype(np.float32)
    entries = sorted({phrasing.entry for phrasing in ordered})
    linear: NDArray[np.int8] | None = None
    scales = np.zeros(0, dtype=np.float32)
    position = {entry: at for at, entry in enumerate(entries)}
    entry_of = np.array([position[phrasing.entry] for phrasing in ordered], dtype=np.int32)
    counts = np.bincount(entry_of)
    cells = max(len(vocabulary) * len(entries), bytes_needed(counts, len(vocabulary)))
    if len(rows) <= LARGEST_VARIANTS and cells <= LARGEST_CELLS:
        linear, scales = fit_weights(
            documents, tokens, values, entry_of, token_count=len(vocabulary), entry_count=len(entries)
        )
    order = np.argsort(tokens, kind="stable")
    signs = np.array([signs_of(phrasing.normalised) for phrasing in ordered], dtype=np.float32)
    first = np.r_[0, np.cumsum(counts)[:-1]]
    return LanguageIndex(
        language=language,
        phrasings=ordered,
        vocabulary=vocabulary,
        weights=weights,
        offsets=np.r_[0, np.cumsum(frequency)].astype(np.int32),
        documents=documents[order].astype(np.int32),
        buckets=np.array(buckets_of(vocabulary), dtype=np.uint16),
        shown=(np.add.reduceat(signs, first, axis=0) / counts[:, None]).astype(np.float32),
        linear=linear,
        linear_scales=scales,
        lexicon=lexicon,
    )
