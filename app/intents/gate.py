"""The gate: would any entry of any knowledge base answer this? A linear model over hashed tokens.

Hashing keeps the model small and means that no text it was fitted on can be read out of it.

Source: the measurements on matching, ablations (the gate).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

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

    def score(self, tokens: Sequence[str]) -> float:
        """Return how answerable a text of these tokens looks: log-odds, 0 undecided."""
        weights = self.weights
        total = sum([weights[crc32(token.encode()) & _MASK] for token in tokens])
        return total / (len(tokens) + 1) ** 0.5 + self.bias

    @classmethod
    def neutral(cls) -> Gate:
        """Return a gate that knows nothing: 0 for every text."""
        return cls((0.0,) * BUCKETS, 0.0)
