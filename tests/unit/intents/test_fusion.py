"""Trees read all at once, against trees walked one by one."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from app.intents.features import FEATURES
from app.intents.fusion import Fusion, Trees
from app.intents.gate import Gate

TREES = 7


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_trees_read_at_once_say_what_walking_them_says(count: int) -> None:
    random = np.random.default_rng(2)
    features = random.integers(0, len(FEATURES), 3 * TREES)
    limits = random.random(3 * TREES).astype(np.float32)
    values = random.normal(size=(4, TREES)).astype(np.float32)
    rows = random.random((count, len(FEATURES))).astype(np.float32)
    coefficients = random.normal(size=len(FEATURES)).astype(np.float32)
    expected: list[float] = []
    for row in rows:
        total = 0.0
        for tree in range(TREES):
            root = int(row[features[tree]] > limits[tree])
            below = tree + TREES * (1 + root)
            total += float(values[2 * root + int(row[features[below]] > limits[below]), tree])
        expected.append(total)
    trees = Trees.of(features, limits, values)
    assert trees.score(rows) == pytest.approx(expected, abs=1e-5)

    fused = Fusion(
        coefficients=np.concatenate((coefficients, trees.weights)),
        intercept=trees.base - 0.5,
        trees=trees,
        gate=Gate.neutral(),
    )
    logits = [total + float(row @ coefficients) - 0.5 for total, row in zip(expected, rows, strict=True)]
    assert fused.probabilities(rows) == pytest.approx([1 / (1 + exp(-one)) for one in logits], abs=1e-5)


def test_a_fusion_without_trees_is_a_logistic_regression() -> None:
    plain = Fusion(np.ones(2, dtype=np.float32), -1.0, None, Gate.neutral())
    rows = np.array([[1, 0], [-2000, 0]], dtype=np.float32)
    assert plain.probabilities(rows) == pytest.approx([0.5, 0.0], abs=1e-9)
