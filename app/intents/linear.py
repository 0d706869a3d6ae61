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
_CHUNK: Final = 1_024


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
    gram = np.zeros((count, count), dtype=np.float32)
    # Token by token blocks of a dense matrix: a bounded amount of memory whatever the vocabulary.
    for low in range(0, token_count, _CHUNK):
        high = min(low + _CHUNK, token_count)
        inside = (tokens >= low) & (tokens < high)
        block = np.zeros((count, high - low), dtype=np.float32)
        block[documents[inside], tokens[inside] - low] = values[inside]
        gram += block @ block.T
    gram.flat[:: count + 1] += _RIDGE
    targets = np.zeros((count, entry_count), dtype=np.float32)
    targets[np.arange(count), entry_of] = 1.0
    dual = np.linalg.solve(gram, targets)
    weights = np.empty((token_count, entry_count), dtype=np.int8)
    scales = np.empty(token_count, dtype=np.float32)
    for low in range(0, token_count, _CHUNK):
        high = min(low + _CHUNK, token_count)
        inside = (tokens >= low) & (tokens < high)
        block = np.zeros((high - low, count), dtype=np.float32)
        block[tokens[inside] - low, documents[inside]] = values[inside]
        exact = block @ dual
        scale = np.maximum(np.abs(exact).max(axis=1), 1e-9) / 127.0
        weights[low:high] = np.rint(exact / scale[:, None]).astype(np.int8)
        scales[low:high] = scale
    return weights, scales
