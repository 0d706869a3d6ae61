"""The linear classifier over a knowledge base's phrasings: ridge regression onto one indicator for each entry.

Solved in closed form through the phrasings' own similarities, which costs far less than iterating over tokens and, on
the labelled data, ranks as well as multinomial logistic regression. Done when knowledge is published, never at start.

Source: the measurements on matching, its recommended algorithm, step 3.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_CELLS", "LARGEST_VARIANTS", "fit_weights"]

LARGEST_VARIANTS: Final = 4_000
"""Above this many phrasings solving takes too long, and nearest phrasings and means serve alone."""
LARGEST_CELLS: Final = 16_000_000
"""Most weights (tokens times entries) kept, one byte each."""
_RIDGE: Final = 0.3
_CHUNK: Final = 512
_RARE: Final = 24
"""A token in at most so many phrasings counts as rare."""


def fit_weights(
    documents: NDArray[np.int32],
    tokens: NDArray[np.int32],
    values: NDArray[np.float32],
    entry_of: NDArray[np.int32],
    *,
    token_count: int,
    entry_count: int,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Fit the classifier.

    Args:
        documents, tokens, values: the phrasings' unit vectors as coordinates, by document.
        entry_of: the entry number of each document.
        token_count, entry_count: the sizes of the vocabulary and of the knowledge base.

    Returns:
        Weights as ``int8`` of shape (tokens, entries) and a ``float32`` scale for each token.
    """
    count = len(entry_of)
    gram = _similarities(documents, tokens, values, count, token_count)
    gram.flat[:: count + 1] += _RIDGE
    targets = np.zeros((count, entry_count), dtype=np.float32)
    targets[np.arange(count), entry_of] = 1.0
    dual = np.linalg.solve(gram, targets)
    del gram, targets
    weights = np.empty((token_count, entry_count), dtype=np.int8)
    scales = np.empty(token_count, dtype=np.float32)
    order = np.argsort(tokens, kind="stable")
    offsets = np.r_[0, np.cumsum(np.bincount(tokens, minlength=token_count))]
    for low in range(0, token_count, _CHUNK):
        high = min(low + _CHUNK, token_count)
        # Every token stands in some phrasing, so none of the sums is empty.
        inside = order[offsets[low] : offsets[high]]
        shares = dual.take(documents[inside], axis=0)
        shares *= values[inside, None]
        exact = np.add.reduceat(shares, offsets[low:high] - offsets[low], axis=0)
        scale = np.maximum(np.abs(exact).max(axis=1), 1e-9) / 127.0
        weights[low:high] = np.rint(exact / scale[:, None]).astype(np.int8)
        scales[low:high] = scale
    return weights, scales


def _similarities(
    documents: NDArray[np.int32],
    tokens: NDArray[np.int32],
    values: NDArray[np.float32],
    count: int,
    token_count: int,
) -> NDArray[np.float32]:
    """Return the phrasings' similarities to each other, shape (count, count).

    Tokens of many phrasings are multiplied as dense blocks, the many rare ones pair by pair.
    """
    gram = np.zeros((count, count), dtype=np.float32)
    frequency = np.bincount(tokens, minlength=token_count)
    common = np.flatnonzero(frequency > _RARE)
    place = np.full(token_count, -1)
    place[common] = np.arange(len(common))
    at = place[tokens]
    for low in range(0, len(common), _CHUNK):
        high = min(low + _CHUNK, len(common))
        inside = (at >= low) & (at < high)
        block = np.zeros((count, high - low), dtype=np.float32)
        block[documents[inside], at[inside] - low] = values[inside]
        gram += block @ block.T
    order = np.argsort(tokens, kind="stable")
    rare = order[at[order] < 0]
    ends = np.cumsum(frequency)[tokens[rare]]
    position = np.flatnonzero(at[order] < 0)
    flat = gram.reshape(-1)
    for step in range(_RARE):
        # Each posting with the one ``step`` further on among its token's: no pair of phrasings is met twice by one
        # token, but by several, hence the unbuffered sum.
        inside = position + step < ends
        first, second = rare[inside], order[position[inside] + step]
        shares = values[first] * values[second]
        np.add.at(flat, documents[first].astype(np.intp) * count + documents[second], shares)
        if step:
            np.add.at(flat, documents[second].astype(np.intp) * count + documents[first], shares)
    return gram
