"""What is wrong with a file, told so that a person can mend it: where, what, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz.distance import OSA

__all__ = ["Place", "Problem", "Warned", "fold_name", "nearest_name"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: a file as the user named it, and a line from 1 (0: the file as a whole)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason to refuse an import. ``entry`` is the entry's id where one is known, ``field`` its dotted path."""

    place: Place
    message: str
    entry: str = ""
    field: str = ""
    fix: str = ""

    def __str__(self) -> str:
        about = " ".join(part for part in (self.entry, self.field) if part)
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.place}: {about + ': ' if about else ''}{self.message}{fix}"


class Warned(Problem):
    """Something to look at that refuses nothing."""

    __slots__ = ()


def fold_name(name: str) -> str:
    """Return a key without case, underscores and hyphens, so that ``burstQuiet`` and ``burst-quiet`` meet."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` is probably a slip of: one edit in short names, two in longer ones.

    Swapped neighbours count as one edit. Names of one or two letters have no near miss.
    """
    folded = fold_name(name)
    if len(folded) < 3:
        return None
    limit = 1 if len(folded) < 6 else 2
    best: tuple[int, str] | None = None
    for candidate in known:
        distance = OSA.distance(folded, fold_name(candidate), score_cutoff=limit)
        if distance <= limit and (best is None or distance < best[0]):
            best = (distance, candidate)
    return best[1] if best else None
