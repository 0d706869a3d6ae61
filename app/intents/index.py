"""One language's phrasings as an inverted index in plain arrays, and the search over it.

Phrasings are sorted by entry, so an entry's are one slice. Everything a search touches is bounded: postings by a
budget (rarest tokens first), the classifier by the number of entries.

Source: the measurements on matching, recommended algorithm; the performance page, matching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.intents.grams import Lexicon, chinese_tokens, latin_tokens, token_weight
from app.intents.linear import LARGEST_CELLS, LARGEST_VARIANTS, fit_weights
from app.intents.signs import signs_of

__all__ = ["CANDIDATES", "Hits", "LanguageIndex", "Phrasing", "fit_language"]

CANDIDATES: Final = 5
"""Entries that are looked at closely."""
POSTINGS: Final = 12_000
"""Most postings read for one text; beyond it only the rarer tokens count towards the nearest phrasings."""
_NEAREST_SHARE: Final = 0.5

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Phrasing:
    """One phrasing of an entry: which entry (its number), as written, and made comparable."""

    entry: int
    text: str
    normalised: str


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found: entries by number, best first, with everything the features need."""

    entries: tuple[int, ...]
    variants: tuple[int, ...]
    linear: Floats
    """The classifier's score of every entry (zeros without a classifier)."""
    nearest: NDArray[np.float64]
    """The cosine of every entry's nearest phrasing."""
    similarity: NDArray[np.float64]
    """The cosine of every phrasing."""
    tokens: list[int]
    mass: float
    """Squared weight of the text's known tokens."""
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
    values: Floats
    linear: NDArray[np.int8] | None
    linear_scales: Floats
    lexicon: Lexicon
    number_of: dict[str, int] = field(init=False)
    entry_numbers: tuple[int, ...] = field(init=False)
    starts: Ints = field(init=False)
    ends: Ints = field(init=False)
    lengths: Floats = field(init=False)
    norms: Floats = field(init=False)
    signs: Floats = field(init=False)
    member: NDArray[np.uint8] | None = field(init=False)
    _tokens: Callable[[str, Lexicon], list[str]] = field(init=False)
    _postings: list[Ints] = field(init=False)
    _posting_values: list[Floats] = field(init=False)
    _unknown_weight: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens = chinese_tokens if self.language == "zh" else latin_tokens
        self.number_of = {token: number for number, token in enumerate(self.vocabulary)}
        of_entry = np.array([phrasing.entry for phrasing in self.phrasings], dtype=np.int32)
        starts = np.flatnonzero(np.r_[True, of_entry[1:] != of_entry[:-1]]).astype(np.int32)
        self.starts = starts
        self.ends = np.r_[starts[1:], len(of_entry)].astype(np.int32)
        self.entry_numbers = tuple(int(number) for number in of_entry[starts])
        self.lengths = np.array([len(phrasing.normalised) for phrasing in self.phrasings], dtype=np.float32)
        bounds = self.offsets.tolist()
        self._postings = [self.documents[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]
        self._posting_values = [self.values[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]
        self._unknown_weight = float(np.log(len(self.phrasings) + 1.0) + 1.0) * 0.9
        each = np.repeat(self.weights, np.diff(self.offsets))
        self.norms = np.sqrt(np.bincount(self.documents, each * each, minlength=len(of_entry))).astype(
            np.float32
        )
        phrasing_signs = np.array(
            [signs_of(phrasing.normalised) for phrasing in self.phrasings], dtype=np.float32
        )
        counts = (self.ends - self.starts).astype(np.float32)
        self.signs = np.add.reduceat(phrasing_signs, starts, axis=0) / counts[:, None]
        self.member = None
        if self.linear is not None:
            position = np.repeat(np.arange(len(starts), dtype=np.int32), self.ends - self.starts)
            token_of = np.repeat(np.arange(len(self.vocabulary), dtype=np.int32), np.diff(self.offsets))
            self.member = np.zeros((len(self.vocabulary), len(starts)), dtype=np.uint8)
            self.member[token_of, position[self.documents]] = 1

    def search(self, text: str, allowed: NDArray[np.bool_] | None = None) -> Hits | None:
        """Return the entries nearest to a normalised text, or None when no phrasing shares a token with it.

        Args:
            text: normalised.
            allowed: by entry number of the snapshot, whether the entry may be found; None for all.
        """
        tokens = self._tokens(text, self.lexicon)
        numbers = [number for number in map(self.number_of.get, tokens) if number is not None]
        if not numbers:
            return None
        characters = len(set(text))
        known = (
            sum(map(self.number_of.__contains__, tokens[:characters]))
            if self.language == "zh"
            else characters
        )
        weights = self.weights[numbers]
        mass = float(weights @ weights)
        unit = weights / np.float32(mass**0.5)
        similarity = self._similarity(numbers, unit)
        nearest = np.maximum.reduceat(similarity, self.starts)
        if self.linear is not None:
            linear = (unit * self.linear_scales[numbers]) @ self.linear[numbers].astype(np.float32)
            order = linear + _NEAREST_SHARE * nearest
        else:
            linear = (np.add.reduceat(similarity, self.starts) / (self.ends - self.starts)).astype(np.float32)
            order = linear + nearest
        if allowed is not None:
            order = np.where(allowed[list(self.entry_numbers)], order, -1.0)
        count = min(CANDIDATES, len(order))
        best = np.argpartition(order, -count)[-count:] if len(order) > count else np.arange(count)
        ranked = [
            int(at)
            for at in best[np.argsort(-order[best], kind="stable")]
            if nearest[at] > 0 and order[at] > -1
        ]
        if not ranked:
            return None
        return Hits(
            entries=tuple(ranked),
            variants=tuple(
                int(low + similarity[low:high].argmax())
                for low, high in zip(self.starts[ranked].tolist(), self.ends[ranked].tolist(), strict=True)
            ),
            linear=linear,
            nearest=nearest,
            similarity=similarity,
            tokens=numbers,
            mass=mass,
            unknown=(len(tokens) - len(numbers)) * self._unknown_weight**2,
            unknown_characters=1.0 - known / characters,
        )

    def _similarity(self, numbers: list[int], unit: Floats) -> NDArray[np.float64]:
        postings = self._postings
        lists = [postings[number] for number in numbers]
        lengths = [len(some) for some in lists]
        values = [self._posting_values[number] for number in numbers]
        if sum(lengths) > POSTINGS:
            order = sorted(range(len(numbers)), key=lengths.__getitem__)
            kept: list[int] = []
            room = POSTINGS
            for at in order:
                room -= lengths[at]
                if room < 0 and kept:
                    break
                kept.append(at)
            lists, values, unit = [lists[at] for at in kept], [values[at] for at in kept], unit[kept]
            lengths = [lengths[at] for at in kept]
        weighted = np.concatenate(values) * np.repeat(unit, lengths)
        return np.bincount(np.concatenate(lists), weighted, minlength=len(self.phrasings))


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
        values=values[order],
        linear=linear,
        linear_scales=scales,
        lexicon=lexicon,
    )
