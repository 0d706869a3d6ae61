"""A message taken apart: its clauses, which of them carry content, and whether it can stand alone.

Source: the domain rules on reaction (bursts) and on text handling (very long texts by sentence).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from app.intents.normalise import LONGEST_TEXT, Normaliser, is_social, language_of

__all__ = ["Clause", "clauses_of", "content_clauses", "is_fragment", "split_questions"]

_LINK = re.compile(r"(?:https?://|www\.)\S+")
_SEPARATOR = re.compile(
    # First what every separator begins with: where none does, which is nearly everywhere, this is all that is tried.
    r"(?=[\s。！？!?；;，,…～~—.、])"
    r"(?:[\n\r。！？!?；;，,…～~—]+|\.{2,}|\.(?=\s|$)|(?<=[^\x00-\x7f])[\s.、]+|[\s.、]+(?=[^\x00-\x7f]))"
)
_MOST_CLAUSES: Final = 400
_QUESTION = re.compile(
    r"[吗么嘛?？]|什么|怎么|怎样|咋|多少|几|哪|谁|为何|为啥|如何|是否|能否|可否|有没|不$|没$|(.)不\1|多久|多大|多长"
)
# Answers to the bot's "anything else?", which say nothing when more follows.
_LEADING_OVER = re.compile(
    r"(?:暂时|目前)?(?:没有|没|木有)(?:别的|其他|其它)?(?:了|问题了?)?|没事了?|不用了|是的|对的?|对了|是"
)
_REQUEST = re.compile(r"我要|我想|帮|请|麻烦|给我|申请|转|催|取消|投诉|退|换|查|改|开")
_UNFINISHED: Final = (
    *",，、：:；;…和跟",
    *"因为 所以 但是 可是 然后 还有 而且 如果 就是 那个 这个 我的 关于 的话 以及 或者 ..".split(),
)


class Clause(NamedTuple):
    """One clause: as the buyer wrote it, and made comparable."""

    text: str
    normalised: str


def clauses_of(text: str, normaliser: Normaliser) -> list[Clause]:
    """Return the clauses of a message that hold any letter or digit; at most 400, from its first 8,000 characters."""
    text = text[:LONGEST_TEXT]
    # Nothing but letters and digits: neither links nor separators.
    plain = text.isalnum()
    if not plain and ("http" in text or "www." in text):
        text = _LINK.sub(" ", text)
    if plain or _SEPARATOR.search(text) is None:
        normalised = normaliser.normalise(text)
        return [Clause(text.strip(), normalised)] if normalised else []
    clauses: list[Clause] = []
    for part in _SEPARATOR.split(text, maxsplit=_MOST_CLAUSES)[:_MOST_CLAUSES]:
        if part and (normalised := normaliser.normalise(part)):
            clauses.append(Clause(part.strip(), normalised))
    return clauses


def content_clauses(clauses: list[Clause]) -> list[Clause]:
    """Return the clauses that aren't mere courtesy, or all of them when nothing else is there."""
    if len(clauses) < 2:
        return clauses
    return [
        clause
        for clause in clauses
        if not is_social(clause.normalised) and _LEADING_OVER.fullmatch(clause.normalised) is None
    ] or clauses


def split_questions(text: str, normaliser: Normaliser) -> tuple[str, ...]:
    """Return the parts of a message that may each be a question of their own, in order, as the buyer wrote them."""
    return tuple(clause.text for clause in content_clauses(clauses_of(text, normaliser)))


def is_fragment(text: str, content: str) -> bool:
    """Whether a message looks like a part of something still being typed.

    Args:
        text: the message as written.
        content: its normalised content without courtesy.
    """
    if not content or is_social(content) or text.rstrip().endswith(_UNFINISHED):
        return True
    if language_of(content) != "zh":
        return " " not in content and len(content) < 12
    if len(content) < 3:
        return True
    return len(content) <= 6 and not (_QUESTION.search(text) or _REQUEST.search(content))
