"""Bits of phrasings, and the similarities that the classifier is solved from, against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from app.intents.bitrows import BitRows, bytes_needed
from app.intents.linear import fit_weights


def test_weighing_bits_sums_what_each_phrasing_and_entry_holds() -> None:
    random = np.random.default_rng(3)
    holds = random.random((40, 21)) < 0.3
    tokens, documents = np.nonzero(holds)
    bounds = np.array([0, 1, 9, 12, 21])
    inverse_norms = random.random(21) + 0.1
    rows = BitRows.of(tokens, documents, bounds, inverse_norms, token_count=40)
    numbers = np.array([3, 7, 20, 39])
    squares = random.random(4).astype(np.float32)
    begins, nearness, conceptual = rows.weigh(numbers, [2, 1], squares, 2)
    assert conceptual is not None
    for place, begin in zip([2, 1], begins, strict=True):
        inside = holds[numbers, bounds[place] : bounds[place + 1]]
        assert nearness[begin] == pytest.approx(squares @ inside.any(axis=1), abs=1e-5)
        assert conceptual[begin] == pytest.approx(squares[2:] @ inside[2:].any(axis=1), abs=1e-5)
        expected = (squares @ inside) * inverse_norms[bounds[place] : bounds[place + 1]]
        assert nearness[begin + 1 : begin + 1 + inside.shape[1]] == pytest.approx(expected, abs=1e-5)
    assert rows.weigh(numbers, [2, 1], squares, 0) == (begins, nearness, None)


def test_the_size_of_the_rows_is_known_beforehand() -> None:
    sizes = np.array([1, 7, 8, 9])
    none = np.zeros(0, dtype=np.intp)
    rows = BitRows.of(none, none, np.r_[0, np.cumsum(sizes)], np.ones(25), token_count=5)
    assert rows.rows.nbytes == bytes_needed(sizes, 5)


def test_the_classifier_is_the_ridge_solution_whether_tokens_are_rare_or_common() -> None:
    random = np.random.default_rng(5)
    shares = np.linspace(0.02, 0.9, 50)
    dense = (random.random((60, 50)) < shares).astype(np.float32)
    dense[0] = 1
    dense /= np.sqrt((dense**2).sum(axis=1, keepdims=True)) + 1e-9
    documents, tokens = np.nonzero(dense)
    entry_of = np.arange(60) // 6
    weights, scales = fit_weights(
        documents.astype(np.int32),
        tokens.astype(np.int32),
        dense[documents, tokens],
        entry_of.astype(np.int32),
        token_count=50,
        entry_count=10,
    )
    expected = dense.T @ np.linalg.solve(dense @ dense.T + 0.3 * np.eye(60), np.eye(10)[entry_of])
    assert weights * scales[:, None] == pytest.approx(expected, abs=0.01)
