"""The gate: would any entry of any knowledge base answer this? A linear model over hashed character grams.

Hashing keeps the model small and means that no text it was fitted on can be read out of it.

Source: the measurements on matching, ablations (the gate).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUCKETS", "Gate", "buckets_of"]

BUCKETS: Final = 1 << 13
_MASK: Final = np.uint32(BUCKETS - 1)
_LONGEST: Final = 60
_EDGE: Final = "\x02"


def buckets_of(text: str) -> NDArray[np.uint32]:
    """Return the buckets of a normalised text's character 1–3 grams (with edges), of its first 60 characters."""
    coded = f"{_EDGE}{text[:_LONGEST]}{_EDGE}".encode("utf-32-le", "replace")
    points = np.frombuffer(coded, dtype=np.uint32) * np.uint32(2654435761)
    two = (points[:-1] * np.uint32(31)) ^ points[1:]
    three = (two[:-1] * np.uint32(131)) ^ points[2:]
    grams = np.concatenate((points[1:-1], two + np.uint32(1), three + np.uint32(2)))
    return ((grams ^ (grams >> np.uint32(15))) * np.uint32(2246822519) >> np.uint32(11)) & _MASK


@dataclass(frozen=True, slots=True)
class Gate:
    """The fitted gate: a weight for each bucket, and a bias."""

    weights: NDArray[np.float32]
    bias: float

    def score(self, text: str) -> float:
        """Return how answerable a normalised text looks: log-odds, 0 undecided."""
        buckets = buckets_of(text)
        return float(self.weights[buckets].sum()) / float(np.sqrt(buckets.size + 1)) + self.bias

    @classmethod
    def neutral(cls) -> Gate:
        """Return a gate that knows nothing: 0 for every text."""
        return cls(np.zeros(BUCKETS, dtype=np.float32), 0.0)
