"""The inverted index of a large knowledge base: for each token, the phrasings that hold it.

Source: the measurements on matching, recommended algorithm; the performance page, matching.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Postings"]

POSTINGS: Final = 12_000
"""Most postings read for one text; beyond it only the rarer tokens count towards the nearest phrasings."""

Doubles: TypeAlias = NDArray[np.float64]


class Postings:
    """Phrasings by token, and the similarity of them all to a text. Phrasings are sorted by entry."""

    __slots__ = ("_counts", "_inverse_norms", "_lists", "_starts")

    def __init__(
        self,
        documents: NDArray[np.intp],
        offsets: list[int],
        inverse_norms: Doubles,
        bounds: NDArray[np.intp],
    ) -> None:
        """Take the postings.

        Args:
            documents: the phrasings that hold each token, token after token.
            offsets: where each token's begin; one longer than the vocabulary.
            inverse_norms: one over the norm of each phrasing.
            bounds: where each entry's phrasings begin; one longer than the entries.
        """
        self._lists = [documents[low:high] for low, high in pairwise(offsets)]
        self._inverse_norms = inverse_norms
        self._starts = bounds[:-1]
        self._counts = np.diff(bounds)

    def similarity(self, known: list[int], squares: NDArray[np.float32]) -> Doubles:
        """Return the cosine of every phrasing times the text's length, from its tokens and their squared weights."""
        lists = [self._lists[number] for number in known]
        lengths = [len(some) for some in lists]
        if sum(lengths) > POSTINGS:
            room = POSTINGS
            kept: list[int] = []
            for at in sorted(range(len(known)), key=lengths.__getitem__):
                room -= lengths[at]
                if room < 0 and kept:
                    break
                kept.append(at)
            lists, squares = [lists[at] for at in kept], squares.take(kept)
            lengths = [lengths[at] for at in kept]
        summed = np.bincount(
            np.concatenate(lists), squares.repeat(lengths), minlength=len(self._inverse_norms)
        )
        return summed * self._inverse_norms

    def by_entry(self, similarity: Doubles) -> tuple[Doubles, Doubles]:
        """Return the mean similarity of each entry's phrasings, and that plus the greatest."""
        means = np.add.reduceat(similarity, self._starts) / self._counts
        return means, means + np.maximum.reduceat(similarity, self._starts)
