"""Phrasings of different entries that look nearly alike: a buyer's words can't tell such entries apart.

Similarity is the Jaccard index of character pairs. Only phrases that share one of their rarest pairs are compared
(prefix filtering), so the work stays far below every-with-every.
Source: Bayardo, Ma, Srikant, "Scaling up all pairs similarity search", WWW 2007.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Lookalike", "lookalikes"]

_THRESHOLD = 0.7
"""Share of character pairs in common: one character more or less in a phrase of eight is above it."""


@dataclass(frozen=True, slots=True)
class Lookalike:
    """Positions of two phrases in the sequence given, and their similarity from 0 to 1."""

    first: int
    second: int
    similarity: float


def lookalikes(phrases: Sequence[tuple[str, str]], threshold: float = _THRESHOLD) -> Iterator[Lookalike]:
    """Yield pairs of similar phrases that belong to different owners.

    Args:
        phrases: (owner, normalised phrase); phrases shorter than four characters are passed over.
        threshold: least similarity, above 0 and up to 1.
    """
    pairs = [_pairs(text) if len(text) >= 4 else frozenset[str]() for _owner, text in phrases]
    counts = Counter(pair for found in pairs for pair in found)
    postings: dict[str, list[int]] = defaultdict(list)
    for index, mine in enumerate(pairs):
        if not mine:
            continue
        rarest = sorted(mine, key=lambda pair: (counts[pair], pair))
        prefix = rarest[: len(mine) - math.ceil(threshold * len(mine)) + 1]
        seen: set[int] = set()
        for pair in prefix:
            for other in postings[pair]:
                if other in seen or phrases[other][0] == phrases[index][0]:
                    continue
                seen.add(other)
                theirs = pairs[other]
                shared = len(mine & theirs)
                similarity = shared / (len(mine) + len(theirs) - shared)
                if similarity >= threshold:
                    yield Lookalike(other, index, similarity)
            postings[pair].append(index)


def _pairs(text: str) -> frozenset[str]:
    padded = f"^{text}$"
    return frozenset(padded[at : at + 2] for at in range(len(padded) - 1))
