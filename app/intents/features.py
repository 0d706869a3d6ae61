"""The features by which candidates are weighed: how near, how far ahead, how much is covered, what kind of talk.

No feature names an entry, so coefficients fitted on one shop serve another.

Source: the measurements on matching, its recommended algorithm, step 4.
"""

from __future__ import annotations

from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.fuzz import ratio

from app.intents.index import Hits, LanguageIndex
from app.intents.signs import SIGNS, signs_of

__all__ = ["FEATURES", "features_of"]

_SHARPNESS: Final = 12.0
FEATURES: Final = (
    "linear", "linear_margin", "nearest", "nearest_margin", "nearest_three", "text_covered", "phrasing_covered",
    "entry_covers", "unknown", "unknown_characters", "length", "length_ratio", "length_gap", "ratio", "share", "agree", "exact",
    "best_linear", "best_nearest", "gate",
    *(f"is_{sign}" for sign in SIGNS),
    *(f"differs_{sign}" for sign in SIGNS),
)  # fmt: skip


def features_of(index: LanguageIndex, hits: Hits, text: str, gate: float) -> NDArray[np.float32]:
    """Return a row of ``FEATURES`` for each of the hits' entries, in their order.

    Args:
        index: where the hits were found.
        hits: the result of its search.
        text: the normalised text searched for.
        gate: the gate's score of the text.
    """
    rows = np.zeros((len(hits.entries), len(FEATURES)), dtype=np.float32)
    linear = hits.linear
    nearest = hits.nearest
    top_linear = np.partition(linear, -2)[-2:].tolist() if len(linear) > 1 else [0.0, float(linear[0])]
    top_nearest = np.partition(nearest, -2)[-2:].tolist() if len(nearest) > 1 else [0.0, float(nearest[0])]
    total = hits.mass + hits.unknown
    root = hits.mass**0.5
    sharpened = np.exp((linear - np.float32(top_linear[1])) * np.float32(_SHARPNESS))
    spread = float(sharpened.sum())
    entries = list(hits.entries)
    linears = linear[entries].tolist()
    nearests = nearest[entries].tolist()
    shares = sharpened[entries].tolist()
    norms = index.norms[list(hits.variants)].tolist()
    length = len(text)
    if index.member is not None:
        squared = index.weights[hits.tokens]
        covers = ((squared * squared) @ index.member[np.ix_(hits.tokens, entries)] / total).tolist()
    else:
        covers = [near * root * norm / total for near, norm in zip(nearests, norms, strict=True)]
    unknown = hits.unknown / total
    for at, (entry, variant) in enumerate(zip(hits.entries, hits.variants, strict=True)):
        line, near, norm = linears[at], nearests[at], norms[at]
        three = np.sort(hits.similarity[index.starts[entry] : index.ends[entry]])[-3:].tolist()
        key = index.phrasings[variant].normalised
        common = near * root * norm
        gap = log((length + 1) / (len(key) + 1))
        rows[at, :20] = (
            line,
            line - (top_linear[0] if line >= top_linear[1] else top_linear[1]),
            near,
            near - (top_nearest[0] if near >= top_nearest[1] else top_nearest[1]),
            sum(three) / len(three),
            common / total,
            common / (norm * norm),
            covers[at],
            unknown,
            hits.unknown_characters,
            log(length + 1),
            gap,
            abs(gap),
            ratio(text, key) / 100,
            shares[at] / spread,
            float(line >= top_linear[1]) + float(near >= top_nearest[1]),
            float(text == key),
            top_linear[1],
            top_nearest[1],
            gate,
        )
    signs = signs_of(text)
    rows[:, 20 : 20 + len(SIGNS)] = signs
    rows[:, 20 + len(SIGNS) :] = np.abs(signs - index.signs[entries])
    return rows
