"""From features to a calibrated probability: logistic regression with shipped coefficients, and the shipped gate.

Fitted offline by ``scripts/fit_intents.py`` on labelled messages, including ones no entry answers; see the page on
matching in the documentation.

Source: the measurements on matching, its recommended algorithm, steps 5 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.domain.matching import Thresholds
from app.intents.features import FEATURES
from app.intents.gate import BUCKETS, Gate

__all__ = ["Fusion", "FusionModel", "shipped_model", "shipped_thresholds"]


@dataclass(frozen=True, slots=True)
class Fusion:
    """One language's logistic regression over ``FEATURES`` as they are (standardisation folded in), and its gate."""

    coefficients: NDArray[np.float32]
    intercept: float
    gate: Gate

    def probabilities(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return, for each candidate's row of features, the probability that it answers the text."""
        logits = rows @ self.coefficients + np.float32(self.intercept)
        return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


@dataclass(frozen=True, slots=True)
class FusionModel:
    """The fitted fusions by language (``zh`` serves any other), and the thresholds fitted with them."""

    fusions: Mapping[str, Fusion]
    thresholds: Thresholds

    def of(self, language: str) -> Fusion:
        """Return the fusion for a language."""
        return self.fusions.get(language) or self.fusions["zh"]

    @classmethod
    def from_parts(cls, document: Mapping[str, Any], gates: Mapping[str, NDArray[np.int8]]) -> FusionModel:
        """Build the model from its two stored parts. Raises ValueError when it was fitted for other features."""
        if tuple(document["features"]) != FEATURES:
            raise ValueError("the shipped coefficients belong to other features; run scripts/fit_intents.py")
        fusions: dict[str, Fusion] = {}
        for language, part in document["languages"].items():
            weights = np.zeros(BUCKETS, dtype=np.float32)
            if language in gates:
                weights = gates[language].astype(np.float32) * np.float32(part["gate_scale"])
            fusions[language] = Fusion(
                coefficients=np.array(part["coefficients"], dtype=np.float32),
                intercept=float(part["intercept"]),
                gate=Gate(weights, float(part["gate_bias"])),
            )
        limits = document["thresholds"]
        return cls(fusions, Thresholds(answer_at=limits["answer_at"], ask_at=limits["ask_at"]))


@cache
def shipped_model() -> FusionModel:
    """Read the shipped coefficients, once."""
    folder = resources.files("app.intents").joinpath("shipped")
    document = orjson.loads(folder.joinpath("fusion.json").read_bytes())
    with folder.joinpath("gate.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        gates = {name: arrays[name] for name in arrays.files}
    return FusionModel.from_parts(document, gates)


def shipped_thresholds() -> Thresholds:
    """Return the confidences at which the shipped model answers and asks back."""
    return shipped_model().thresholds
