"""The features by which candidates are weighed: how near, how far ahead, how much is covered, what kind of talk.

No feature names an entry, so coefficients fitted on one shop serve another.

Source: the measurements on matching, its recommended algorithm, step 4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import exp, log
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.fuzz import ratio

from app.intents.grams import JOINT
from app.intents.index import Hits, LanguageIndex
from app.intents.signs import SIGNS, signs_of

__all__ = ["FEATURES", "features_of"]

_SHARPNESS: Final = 12.0
FEATURES: Final = (
    "linear", "linear_margin", "share", "nearest", "nearest_margin", "nearest_three",
    "text_covered", "phrasing_covered", "entry_covers", "entry_covers_concepts", "ratio", "exact", "length_ratio",
    *(f"differs_{sign}" for sign in SIGNS),
    "unknown", "unknown_characters", "length", "clauses", "concepts", "gate",
    *(f"is_{sign}" for sign in SIGNS),
)  # fmt: skip


def features_of(index: LanguageIndex, hits: Hits, text: str, gate: float) -> NDArray[np.float32]:
    """Return a row of ``FEATURES`` for each of the hits' entries, in their order.

    Args:
        index: where the hits were found.
        hits: the result of its search.
        text: the normalised text searched for.
        gate: the gate's score of the text.
    """
    found = hits.found
    linears = [hit.linear for hit in found]
    first, second = _two_best(linears)
    near_first, near_second = _two_best([hit.nearest for hit in found])
    sharpened = [exp((line - first) * _SHARPNESS) for line in linears]
    spread = sum(sharpened)
    mass = hits.mass
    total = mass + hits.unknown
    root = mass**0.5
    known = mass / total
    size = log(len(text) + 1)
    signs = signs_of(text)
    of_text = (
        hits.unknown / total,
        hits.unknown_characters,
        size,
        min(text.count(JOINT), 4),
        hits.concepts,
        gate,
        *signs,
    )
    cells: list[float] = []
    keys, differing = index.keys, index.differing
    for hit, sharp in zip(found, sharpened, strict=True):
        place, variant, line, near, nearest_three, covers, covers_concepts = hit
        key, key_size, norm = keys[variant]
        common = near * root
        cells += (
            line,
            line - (second if line == first else first),
            sharp / spread,
            near,
            near - (near_second if near == near_first else near_first),
            nearest_three,
            common * norm / total,
            common / norm,
            covers * known,
            covers_concepts,
            ratio(text, key) / 100,
            1.0 if text == key else 0.0,
            size - key_size,
            *differing(place, signs),
            *of_text,
        )
    # Several times faster than making an array of the list.
    return np.frombuffer(_packed(len(cells))(*cells), dtype=np.float32).reshape(len(found), -1)


@cache
def _packed(count: int) -> Callable[..., bytes]:
    """Return what packs so many numbers (there are at most as many counts as candidates)."""
    return Struct(f"{count}f").pack


def _two_best(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], 0.0
    ordered = sorted(values)
    return ordered[-1], ordered[-2]
