"""Checks over entry documents that a schema can't say: slots, repeats, tone, lookalikes.

They run on files, on one entry from the console and on a whole draft before it is published alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from app.core.errors import InvalidError
from app.domain.tone import lint
from app.intents.normalise import Normaliser
from app.knowledge.codec import Document
from app.knowledge.confusable import lookalikes
from app.knowledge.problems import Place, Problem, Warned
from app.knowledge.yaml_text import Path
from app.replies.templates import check_template

__all__ = ["Findings", "Locate", "check_documents", "phrases_of", "spelling", "templates_of"]

Locate = Callable[[int, Path], Place]
"""Says where a path of the n-th document stands."""

_MOST_LOOKALIKES = 50


@dataclass(frozen=True, slots=True)
class Findings:
    """What checks found: problems refuse, warnings don't."""

    problems: tuple[Problem, ...]
    warnings: tuple[Warned, ...]


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A phrasing: of which document, where in it, and what it says."""

    document: int
    path: Path
    text: str


def check_documents(documents: Sequence[Document], locate: Locate) -> Findings:
    """Check documents that fit the schema, each by itself and all together.

    Problems: a template that doesn't parse or names an unknown slot, an id twice, one variant in two entries.
    Warnings: breaches of the tone rules, one variant twice in an entry, phrasings of two entries that the matcher can hardly tell apart, and
    entries that have nothing to say when none of their conditional answers holds.
    """
    problems = [*_template_problems(documents, locate), *_repeated_ids(documents, locate)]
    warnings = [*_silent_entries(documents, locate), *_tone_breaches(documents, locate)]
    phrases = [
        _Phrase(index, path, text)
        for index, document in enumerate(documents)
        for path, text in phrases_of(document)
    ]
    repeats, twice = _repeated_phrases(documents, phrases, locate)
    warnings += twice
    if not repeats:
        warnings += _lookalikes(documents, phrases, locate)
    return Findings((*problems, *repeats), tuple(warnings))


def spelling(text: str) -> str:
    """Return what makes two variants the same one: width, case, spaces and punctuation don't."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(char for char in folded if unicodedata.category(char)[0] not in "PZC")
    # A variant of nothing but marks is itself.
    return kept or folded.strip()


def phrases_of(document: Document) -> Iterator[tuple[Path, str]]:
    """Yield every phrasing of an entry with its path: question and variants, in every language."""
    yield ("question",), document["question"]
    for index, variant in enumerate(document.get("variants", ())):
        yield ("variants", index), variant
    for language, text in cast("dict[str, Document]", document.get("texts", {})).items():
        yield ("texts", language, "question"), text["question"]
        for index, variant in enumerate(text.get("variants", ())):
            yield ("texts", language, "variants", index), variant


def templates_of(document: Document) -> Iterator[tuple[Path, str]]:
    """Yield every template of an entry with its path: answers, fallback, case fields, in every language."""
    yield from _answer_templates(document, ())
    for index, answer in enumerate(cast("list[Document]", document.get("answers", ()))):
        yield from _answer_templates(answer, ("answers", index))
    if document.get("fallback"):
        yield ("fallback",), document["fallback"]
    for language, text in cast("dict[str, Document]", document.get("texts", {})).items():
        if text.get("answer"):
            yield ("texts", language, "answer"), text["answer"]


def _answer_templates(holder: Document, root: Path) -> Iterator[tuple[Path, str]]:
    if holder.get("answer"):
        yield (*root, "answer"), holder["answer"]
    case = cast("Document", holder.get("case") or {})
    for name, value in cast("dict[str, Any]", case.get("fields", {})).items():
        yield (*root, "case", "fields", name), value


def _template_problems(documents: Sequence[Document], locate: Locate) -> Iterator[Problem]:
    for index, document in enumerate(documents):
        for path, template in templates_of(document):
            try:
                check_template(template)
            except InvalidError as error:
                detail = error.errors[0] if error.errors else None
                yield Problem(
                    locate(index, path),
                    detail.message if detail else error.message,
                    entry=document["id"],
                    field=".".join(map(str, path)),
                    fix=f"did you mean {detail.fix}?" if detail and detail.fix else "",
                )


def _repeated_ids(documents: Sequence[Document], locate: Locate) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, document in enumerate(documents):
        before = first.setdefault(document["id"], index)
        if before != index:
            yield Problem(
                locate(index, ("id",)),
                f"this id stands already at {locate(before, ('id',))}",
                entry=document["id"],
                fix="give each entry an id of its own",
            )


def _silent_entries(documents: Sequence[Document], locate: Locate) -> Iterator[Warned]:
    for index, document in enumerate(documents):
        if (
            document.get("answers")
            and document.get("mode", "auto") != "escalate"
            and not document.get("answer")
        ):
            yield Warned(
                locate(index, ()),
                "has no plain answer: when none of its answers holds, a human is asked",
                entry=document["id"],
            )


def _tone_breaches(documents: Sequence[Document], locate: Locate) -> Iterator[Warned]:
    for index, document in enumerate(documents):
        for path, template in templates_of(document):
            if "case" in path:
                continue
            for finding in lint(template):
                yield Warned(
                    locate(index, path),
                    f"tone: {finding.excerpt!r} ({finding.code})",
                    entry=document["id"],
                    field=".".join(map(str, path)),
                    fix=finding.fix,
                )


def _repeated_phrases(
    documents: Sequence[Document], phrases: Sequence[_Phrase], locate: Locate
) -> tuple[list[Problem], list[Warned]]:
    problems: list[Problem] = []
    warnings: list[Warned] = []
    first: dict[str, _Phrase] = {}
    for phrase in phrases:
        before = first.setdefault(spelling(phrase.text), phrase)
        if before is phrase:
            continue
        owner, other = documents[phrase.document]["id"], documents[before.document]["id"]
        place, earlier = locate(phrase.document, phrase.path), locate(before.document, before.path)
        field = ".".join(map(str, phrase.path))
        if phrase.document == before.document:
            # A list that names its own question again is a habit, not a slip.
            if before.path[-1] != "question":
                warnings.append(Warned(place, f"{phrase.text!r} stands here twice", entry=owner, field=field))
        elif owner != other:
            problems.append(
                Problem(
                    place,
                    f"{phrase.text!r} belongs already to {other} ({earlier})",
                    entry=owner,
                    field=field,
                    fix="keep it in one of the two",
                )
            )
    return problems, warnings


def _lookalikes(
    documents: Sequence[Document], phrases: Sequence[_Phrase], locate: Locate
) -> Iterator[Warned]:
    normaliser = Normaliser()
    comparable = [(documents[phrase.document]["id"], normaliser.normalise(phrase.text)) for phrase in phrases]
    found = sorted(lookalikes(comparable), key=lambda pair: -pair.similarity)
    for pair in found[:_MOST_LOOKALIKES]:
        first, second = phrases[pair.first], phrases[pair.second]
        yield Warned(
            locate(second.document, second.path),
            f"{second.text!r} looks like {first.text!r} of {documents[first.document]['id']}",
            entry=documents[second.document]["id"],
            field=".".join(map(str, second.path)),
        )
    if len(found) > _MOST_LOOKALIKES:
        more = len(found) - _MOST_LOOKALIKES
        yield Warned(
            locate(phrases[found[0].second].document, ()), f"{more} more pairs of phrasings look alike"
        )
