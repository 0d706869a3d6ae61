"""What a normalised text is matched by: character grams, words and the concepts of a synonym lexicon.

Chinese: character 1–3 grams. Other scripts: character 2–4 grams with word edges and word 1–2 grams. Both: a token for
each concept (synonym group) that a word of the lexicon brings in. A token is a plain string, so that one dictionary
holds them all; the first character tells its kind.

Source: the measurements on matching, its recommended algorithm, steps 1–3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import add
from typing import Final, TypeAlias

__all__ = ["CONCEPT", "JOINT", "Lexicon", "Tokens", "chinese_tokens", "latin_tokens", "token_weight"]

CONCEPT: Final = "\x01"
"""First character of a concept's token."""
WORD: Final = "\x02"
"""First character of a whole-word token (scripts with spaces)."""

JOINT: Final = "，"
"""Stands between the clauses of a normalised Chinese text; no token holds it."""

Tokens: TypeAlias = tuple[list[str], int, int]
"""The tokens; how many single characters stand first among them; how many concepts stand last."""

_WEIGHTS: Final = {1: 0.7, 2: 1.0, 3: 0.8}
_CONCEPT_WEIGHT: Final = 1.7
_WORD_WEIGHT: Final = 1.3
_LONGEST_WORD: Final = 12


class Lexicon:
    """Concepts by word. ``words`` maps a normalised word to the concepts it stands for."""

    __slots__ = ("_by_word", "_longer", "_starts")

    def __init__(self, words: Mapping[str, tuple[str, ...]]) -> None:
        self._by_word = {
            word: tuple(CONCEPT + concept for concept in concepts)
            for word, concepts in words.items()
            if 0 < len(word) <= _LONGEST_WORD
        }
        longer: dict[str, set[int]] = {}
        for word in self._by_word:
            if len(word) > 3:
                longer.setdefault(word[:3], set()).add(len(word))
        self._longer = {start: tuple(sorted(lengths)) for start, lengths in longer.items()}
        self._starts = frozenset((*self._by_word, *self._longer))

    def concepts_in(self, text: str, grams: Iterable[str]) -> list[str]:
        """Return the distinct concept tokens of ``text``, whose distinct character 1–3 grams are ``grams``."""
        found: list[str] = []
        by_word = self._by_word
        longer = self._longer
        for gram in filter(self._starts.__contains__, grams):
            if gram in by_word:
                found.extend(by_word[gram])
            if gram in longer:
                at = text.find(gram)
                while at >= 0:
                    for length in longer[gram]:
                        concepts = by_word.get(text[at : at + length])
                        if concepts is not None:
                            found.extend(concepts)
                    at = text.find(gram, at + 1)
        return list(dict.fromkeys(found)) if len(found) > 1 else found


def chinese_tokens(text: str, lexicon: Lexicon) -> Tokens:
    """Return the distinct tokens of a normalised text in Chinese, in a fixed order: characters first."""
    pairs = [*map(add, text, text[1:])]
    tokens = [*text, *pairs, *map(add, pairs, text[2:])]
    characters = len(set(text))
    if characters < len(text):
        # Without a character that occurs twice nothing else does.
        tokens = list(dict.fromkeys(tokens))
    if JOINT in text:
        # Nothing spans two clauses.
        tokens = [gram for gram in tokens if JOINT not in gram]
        characters -= 1
    concepts = lexicon.concepts_in(text, tokens)
    return tokens + concepts, characters, len(concepts)


def latin_tokens(text: str, lexicon: Lexicon) -> Tokens:
    """Return the distinct tokens of a normalised text in a script that puts spaces between words; no characters."""
    words = text.split()
    tokens: dict[str, None] = {}
    concepts: list[str] = []
    for at, word in enumerate(words):
        edged = f" {word} "
        tokens[WORD + word] = None
        if at:
            tokens[f"{WORD}{words[at - 1]} {word}"] = None
        for size in (2, 3, 4):
            for start in range(len(edged) - size + 1):
                tokens[edged[start : start + size]] = None
        concepts.extend(lexicon.concepts_in(word, (word, word[:3]) if len(word) > 3 else (word,)))
    concepts = list(dict.fromkeys(concepts))
    return [*tokens, *concepts], 0, len(concepts)


def token_weight(token: str) -> float:
    """Return how much a token of this kind counts beside its rarity."""
    kind = token[0]
    if kind == CONCEPT:
        return _CONCEPT_WEIGHT
    if kind == WORD:
        return _WORD_WEIGHT
    return _WEIGHTS.get(len(token), 0.7)
