"""The gate: would any entry of any knowledge base answer this? A linear model over hashed tokens.

Hashing keeps the model small and means that no text it was fitted on can be read out of it.

Source: the measurements on matching, ablations (the gate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUCKETS", "Gate", "buckets_of"]

BUCKETS: Final = 1 << 13
_MASK: Final = BUCKETS - 1


def buckets_of(tokens: Sequence[str]) -> list[int]:
    """Return the bucket of each token (none holds a lone surrogate: normalising drops them)."""
    return [crc32(token.encode()) & _MASK for token in tokens]


@dataclass(frozen=True, slots=True)
class Gate:
    """The fitted gate: a weight for each bucket, and a bias."""

    weights: tuple[float, ...]
    bias: float

    def of_vocabulary(self, buckets: NDArray[np.uint16]) -> list[float]:
        """Return the weight of each token of a vocabulary, from the tokens' buckets."""
        return np.array(self.weights).take(buckets).tolist()

    def score(self, vocabulary: list[float], known: list[int], unknown: Sequence[str]) -> float:
        """Return how answerable a text looks: log-odds, 0 undecided.

        Args:
            vocabulary: what ``of_vocabulary`` returned.
            known: the numbers of the text's tokens that are in the vocabulary.
            unknown: its other tokens.
        """
        total = sum(map(vocabulary.__getitem__, known))
        if unknown:
            total += sum(map(self.weights.__getitem__, buckets_of(unknown)))
        return total / (len(known) + len(unknown) + 1) ** 0.5 + self.bias

    @classmethod
    def neutral(cls) -> Gate:
        """Return a gate that knows nothing: 0 for every text."""
        return cls((0.0,) * BUCKETS, 0.0)
