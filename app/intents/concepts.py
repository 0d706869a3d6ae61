"""The lexicon of concepts: words of shop talk that mean the same, shipped, and widened by the shop's own synonyms.

Source: the measurements on matching, ablations (concept groups).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources

import orjson

from app.domain.knowledge import SynonymGroup
from app.intents.normalise import Normaliser

__all__ = ["concept_words", "shipped_concepts"]


def shipped_concepts() -> Mapping[str, tuple[str, ...]]:
    """Read the shipped concept groups: words by concept."""
    raw = resources.files("app.intents").joinpath("shipped", "concepts.json").read_bytes()
    return {concept: tuple(words) for concept, words in orjson.loads(raw).items()}


def concept_words(synonyms: Iterable[SynonymGroup], normaliser: Normaliser) -> dict[str, tuple[str, ...]]:
    """Return the concepts of each normalised word: the shipped groups, with the shop's joined in.

    A group of the shop that shares at least two words with a shipped one widens it; any other is a concept of its own.
    """
    groups = {concept: dict.fromkeys(words) for concept, words in shipped_concepts().items()}
    shipped = tuple(groups)
    for synonym in synonyms:
        words = dict.fromkeys(word for raw in synonym.words if (word := normaliser.normalise(raw)))
        shared = {concept: len(words.keys() & groups[concept].keys()) for concept in shipped}
        nearest = max(shipped, key=shared.__getitem__)
        name = nearest if shared[nearest] >= 2 else f"{synonym.id}\x03"
        groups.setdefault(name, {}).update(words)
    concepts: dict[str, list[str]] = {}
    for concept, words in groups.items():
        for word in words:
            concepts.setdefault(word, []).append(concept)
    return {word: tuple(of) for word, of in concepts.items()}
