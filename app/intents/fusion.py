"""From features to a calibrated probability: a logistic regression and small trees, shipped fitted, and the gate.

Fitted offline by ``scripts/fit_intents.py`` on labelled messages, including ones no entry answers; see the page on
matching in the documentation.

Source: the measurements on matching, its recommended algorithm, steps 5 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import exp
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.domain.matching import Thresholds
from app.intents.features import FEATURES
from app.intents.gate import Gate
from app.intents.index import CANDIDATES

__all__ = ["Fusion", "FusionModel", "Trees", "shipped_model", "shipped_thresholds"]


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees of depth two as three arrays, so that all are read at once.

    A tree asks three questions: at its root, and below it on the left (root's answer 0) and on the right.
    """

    features: NDArray[np.intp]
    """Feature numbers, shape (3 * trees,): all roots, all left questions, all right ones."""
    limits: NDArray[np.float32]
    """A question's answer is 1 when the feature is above its limit; the same shape."""
    base: float
    """The sum over the trees of the value where every answer is 0."""
    weights: NDArray[np.float32]
    """What each answer adds by itself, then what a left (right) one adds together with its root's; shape
    (5 * trees,).
    """
    tiled: NDArray[np.float32]
    """The limits once for each of ``CANDIDATES``; shape (3 * trees, candidates)."""

    def terms(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features, all answers, and each left and right answer times its root's, for each row of features.

        Shape (features + 5 * trees, rows).
        """
        columns = rows.T
        count = len(rows)
        limits = self.tiled if count == CANDIDATES else self.limits[:, None]
        answers = columns.take(self.features, axis=0) > limits
        below = answers.reshape(3, -1)
        both = below[1:] & below[0]
        return np.concatenate((columns, answers, both.reshape(-1, count)), dtype=np.float32)

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sum of all trees' values for each row of features."""
        return self.weights.dot(self.terms(rows)[rows.shape[1] :]) + self.base

    @classmethod
    def of(cls, features: NDArray[Any], limits: NDArray[Any], values: NDArray[Any]) -> Trees:
        """Build from each tree's questions and values.

        Args:
            features, limits: as kept, shape (3 * trees,).
            values: shape (4, trees), by the answers (root, below): (0, 0), (0, 1), (1, 0), (1, 1).
        """
        low, low_step = values[0], values[1] - values[0]
        high, high_step = values[2], values[3] - values[2]
        return cls(
            features=features.astype(np.intp),
            limits=limits.astype(np.float32),
            base=float(low.sum()),
            weights=np.concatenate((high - low, low_step, np.zeros_like(low), -low_step, high_step)).astype(
                np.float32
            ),
            tiled=np.repeat(limits.astype(np.float32), CANDIDATES).reshape(-1, CANDIDATES),
        )


@dataclass(frozen=True, slots=True)
class Fusion:
    """One language's model over ``FEATURES`` as they are (standardisation folded in), and its gate."""

    coefficients: NDArray[np.float32]
    """Of the features; with trees, of all their ``terms``."""
    intercept: float
    trees: Trees | None
    gate: Gate

    def probabilities(self, rows: NDArray[np.float32]) -> list[float]:
        """Return, for each candidate's row of features, the probability that it answers the text."""
        trees = self.trees
        terms = rows.T if trees is None else trees.terms(rows)
        intercept = self.intercept
        return [
            1 / (1 + exp(min(30.0, -logit - intercept))) for logit in self.coefficients.dot(terms).tolist()
        ]


@dataclass(frozen=True, slots=True)
class FusionModel:
    """The fitted fusions by language (``zh`` serves any other), and the thresholds fitted with them."""

    fusions: Mapping[str, Fusion]
    thresholds: Thresholds

    def of(self, language: str) -> Fusion:
        """Return the fusion for a language."""
        return self.fusions.get(language) or self.fusions["zh"]

    @classmethod
    def from_parts(cls, document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FusionModel:
        """Build the model from its two stored parts. Raises ValueError when it was fitted for other features."""
        if tuple(document["features"]) != FEATURES:
            raise ValueError("the shipped coefficients belong to other features; run scripts/fit_intents.py")
        fusions: dict[str, Fusion] = {}
        for language, part in document["languages"].items():
            trees: Trees | None = None
            coefficients = np.array(part["coefficients"], dtype=np.float32)
            intercept = float(part["intercept"])
            if f"{language}.features" in arrays:
                trees = Trees.of(*(arrays[f"{language}.{name}"] for name in ("features", "limits", "values")))
                coefficients = np.concatenate((coefficients, trees.weights))
                intercept += trees.base
            weights: list[float] = (
                arrays[f"{language}.gate"].astype(np.float64) * part["gate_scale"]
            ).tolist()
            fusions[language] = Fusion(
                coefficients=coefficients,
                intercept=intercept,
                trees=trees,
                gate=Gate(tuple(weights), float(part["gate_bias"])),
            )
        limits = document["thresholds"]
        return cls(fusions, Thresholds(answer_at=limits["answer_at"], ask_at=limits["ask_at"]))


@cache
def shipped_model() -> FusionModel:
    """Read the shipped model, once."""
    folder = resources.files("app.intents").joinpath("shipped")
    document = orjson.loads(folder.joinpath("fusion.json").read_bytes())
    with folder.joinpath("fusion.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return FusionModel.from_parts(document, arrays)


def shipped_thresholds() -> Thresholds:
    """Return the confidences at which the shipped model answers and asks back."""
    return shipped_model().thresholds
