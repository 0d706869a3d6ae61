"""One language's phrasings as an inverted index in plain arrays, and the search over it.

Phrasings are sorted by entry, so an entry's are one slice. Everything a search touches is bounded: postings by a
budget (rarest tokens first), the classifier by the number of entries.

Source: the measurements on matching, recommended algorithm; the performance page, matching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.intents.grams import CONCEPT, JOINT, Lexicon, chinese_tokens, latin_tokens, token_weight
from app.intents.linear import LARGEST_CELLS, LARGEST_VARIANTS, fit_weights
from app.intents.signs import signs_of

__all__ = ["CANDIDATES", "Hit", "Hits", "LanguageIndex", "Phrasing", "fit_language"]

CANDIDATES: Final = 4
"""Entries that are looked at closely."""
POSTINGS: Final = 12_000
"""Most postings read for one text; beyond it only the rarer tokens count towards the nearest phrasings."""
_NEAREST_SHARE: Final = 0.5
_JOINTS: Final = frozenset(JOINT)

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]
Places: TypeAlias = NDArray[np.intp]
Doubles: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Phrasing:
    """One phrasing of an entry: which entry (its number), as written, and made comparable."""

    entry: int
    text: str
    normalised: str


@dataclass(slots=True)
class Hit:
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


@dataclass(slots=True)
class Hits:
    """What a search found: at most ``CANDIDATES`` entries, best first, and what the features need of the text."""

    found: list[Hit]
    tokens: list[str]
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
    linear: NDArray[np.int8] | None
    linear_scales: Floats
    lexicon: Lexicon
    number_of: dict[str, int] = field(init=False)
    entry_numbers: tuple[int, ...] = field(init=False)
    """The snapshot's entry number by place in this index."""
    entries: Places = field(init=False)
    bounds: list[int] = field(init=False)
    """Where each entry's phrasings begin; one longer than the entries."""
    starts: Places = field(init=False)
    counts: Floats = field(init=False)
    norms: list[float] = field(init=False)
    inverse_norms: Doubles = field(init=False)
    signs: list[tuple[float, ...]] = field(init=False)
    """Share of an entry's phrasings that show each sign."""
    member: NDArray[np.uint8] | None = field(init=False)
    is_concept: Floats = field(init=False)
    _tokens: Callable[[str, Lexicon], list[str]] = field(init=False)
    _postings: list[Places] = field(init=False)
    _squares: Floats = field(init=False)
    _factors: Floats = field(init=False)
    """Weights times the classifier's scales."""
    _unknown_weight: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = chinese_tokens if self.language == "zh" else latin_tokens
        self.number_of = {token: number for number, token in enumerate(self.vocabulary)}
        of_entry = np.array([phrasing.entry for phrasing in self.phrasings], dtype=np.intp)
        self.starts = np.flatnonzero(np.r_[True, of_entry[1:] != of_entry[:-1]])
        self.bounds = [*self.starts.tolist(), len(of_entry)]
        self.counts = np.diff(self.bounds).astype(np.float32)
        self.entries = of_entry[self.starts]
        self.entry_numbers = tuple(self.entries.tolist())
        documents = self.documents.astype(np.intp)
        token_bounds = self.offsets.tolist()
        self._postings = [documents[low:high] for low, high in pairwise(token_bounds)]
        self._unknown_weight = float(np.log(len(self.phrasings) + 1.0) + 1.0) * 0.9
        squares = np.repeat(self.weights.astype(np.float64) ** 2, np.diff(self.offsets))
        norms = np.sqrt(np.bincount(documents, squares, minlength=len(of_entry)))
        self.norms = norms.tolist()
        self.inverse_norms = 1 / norms
        self._squares = self.weights * self.weights
        self._factors = self.weights * self.linear_scales if self.linear is not None else self.weights
        self.is_concept = np.array([token[0] == CONCEPT for token in self.vocabulary], dtype=np.float32)
        shown = np.array([signs_of(phrasing.normalised) for phrasing in self.phrasings])
        shares = np.add.reduceat(shown, self.starts, axis=0) / self.counts[:, None]
        self.signs = [tuple(row) for row in shares.tolist()]
        self.member = None
        if self.linear is not None:
            place = np.repeat(np.arange(len(self.starts)), np.diff(self.bounds))
            token_of = np.repeat(np.arange(len(self.vocabulary)), np.diff(self.offsets))
            self.member = np.zeros((len(self.vocabulary), len(self.starts)), dtype=np.uint8)
            self.member[token_of, place[documents]] = 1

    def search(self, text: str, allowed: NDArray[np.bool_] | None = None) -> Hits | None:
        """Return the entries nearest to a normalised text, or None when no phrasing shares a token with it.

        Args:
            text: normalised.
            allowed: by entry number of the snapshot, whether the entry may be found; None for all.
        """
        tokens = self._tokens(text, self.lexicon)
        looked_up = [*map(self.number_of.get, tokens)]
        known = [number for number in looked_up if number is not None]
        if not known:
            return None
        characters = len(set(text) - _JOINTS)
        missing = looked_up[:characters].count(None) if self.language == "zh" else 0
        numbers = np.array(known, dtype=np.intp)
        squares = self._squares.take(numbers)
        mass = float(squares.sum())
        # Scores stay multiplied by the text's length (the root of its mass) until the few best are known.
        similarity = self._similarity(known, squares)
        nearest = np.maximum.reduceat(similarity, self.starts)
        if self.linear is not None:
            rows = self.linear.take(numbers, axis=0).astype(np.float32)
            linear = self._factors.take(numbers) @ rows
            order = linear + nearest * _NEAREST_SHARE
        else:
            linear = (np.add.reduceat(similarity, self.starts) / self.counts).astype(np.float32)
            order = linear + nearest
        if allowed is not None:
            order[~allowed[self.entries]] = -np.inf
        if len(order) > CANDIDATES:
            best = order.argpartition(-CANDIDATES)[-CANDIDATES:]
        else:
            best = np.arange(len(order))
        scored = sorted(zip(order.take(best).tolist(), (-best).tolist(), strict=True), reverse=True)
        places = [-place for score, place in scored if score > 0]
        if not places:
            return None
        found = self._hits(places, linear, similarity, numbers, squares, mass)
        return Hits(
            found=found,
            tokens=tokens,
            concepts=_trailing_concepts(tokens),
            mass=mass,
            unknown=(len(tokens) - len(known)) * self._unknown_weight**2,
            unknown_characters=missing / max(characters, 1),
        )

    def _hits(
        self,
        places: list[int],
        linear: Floats,
        similarity: Doubles,
        numbers: Places,
        squares: Floats,
        mass: float,
    ) -> list[Hit]:
        covers = covers_concepts = [1.0] * len(places)
        if self.member is not None:
            inside = self.member.take(numbers, axis=0).take(places, axis=1).astype(np.float32)
            concepts = squares * self.is_concept.take(numbers)
            conceptual = float(concepts.sum())
            covers, covered = (np.array((squares, concepts)) @ inside).tolist()
            covers = [cover / mass for cover in covers]
            if conceptual:
                covers_concepts = [cover / conceptual for cover in covered]
        found: list[Hit] = []
        length = mass**0.5
        bounds = self.bounds
        for place, line, cover, cover_concepts in zip(
            places, linear.take(places).tolist(), covers, covers_concepts, strict=True
        ):
            low = bounds[place]
            near = similarity[low : bounds[place + 1]].tolist()
            top = max(near)
            variant = low + near.index(top)
            near.sort(reverse=True)
            three = near[:3]
            mean = sum(three) / (len(three) * length)
            found.append(Hit(place, variant, line / length, top / length, mean, cover, cover_concepts))
        return found

    def _similarity(self, known: list[int], shares: Floats) -> Doubles:
        """Return the cosine of every phrasing times the text's length, from its tokens' squared weights."""
        postings = self._postings
        lists = [postings[number] for number in known]
        lengths = [len(some) for some in lists]
        if sum(lengths) > POSTINGS:
            room = POSTINGS
            kept: list[int] = []
            for at in sorted(range(len(known)), key=lengths.__getitem__):
                room -= lengths[at]
                if room < 0 and kept:
                    break
                kept.append(at)
            lists, shares = [lists[at] for at in kept], shares.take(kept)
            lengths = [lengths[at] for at in kept]
        counted = np.bincount(np.concatenate(lists), shares.repeat(lengths), minlength=len(self.phrasings))
        return counted * self.inverse_norms


def _trailing_concepts(tokens: list[str]) -> int:
    """Return how many of a text's tokens are concepts; they stand last."""
    for at in range(len(tokens)):
        if tokens[-1 - at][0] != CONCEPT:
            return at
    return len(tokens)


def fit_language(language: str, phrasings: Sequence[Phrasing], lexicon: Lexicon) -> LanguageIndex:
    """Build the index of one language from its phrasings (at least one), in any order; about 1 s for 1,500."""
    ordered = tuple(sorted(phrasings, key=lambda phrasing: phrasing.entry))
    split = chinese_tokens if language == "zh" else latin_tokens
    number_of: dict[str, int] = {}
    rows: list[list[int]] = []
    for phrasing in ordered:
        rows.append(
            [number_of.setdefault(token, len(number_of)) for token in split(phrasing.normalised, lexicon)]
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
    if len(rows) <= LARGEST_VARIANTS and len(vocabulary) * len(entries) <= LARGEST_CELLS:
        position = {entry: at for at, entry in enumerate(entries)}
        entry_of = np.array([position[phrasing.entry] for phrasing in ordered], dtype=np.int32)
        linear, scales = fit_weights(
            documents, tokens, values, entry_of, token_count=len(vocabulary), entry_count=len(entries)
        )
    order = np.argsort(tokens, kind="stable")
    return LanguageIndex(
        language=language,
        phrasings=ordered,
        vocabulary=vocabulary,
        weights=weights,
        offsets=np.r_[0, np.cumsum(frequency)].astype(np.int32),
        documents=documents[order].astype(np.int32),
        linear=linear,
        linear_scales=scales,
        lexicon=lexicon,
    )
