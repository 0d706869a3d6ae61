"""Entries as documents: one JSON shape for files, for the draft and for published versions.

A document is an entry as a person writes it in a file (the contracts page, section 6), with its ``category``. Only
what differs from a default stands in it, so that an exported file reads like a written one and comes back the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from app.core.clock import rfc3339
from app.domain.knowledge import Answer, AnswerMode, CaseSpec, Condition, Entry, LocalisedEntry, SynonymGroup
from app.knowledge.times import format_duration, format_span, parse_duration, parse_instant, parse_span

__all__ = ["Document", "entry_from_doc", "entry_to_doc", "synonyms_from_docs", "synonyms_to_docs"]

Document = dict[str, Any]


def entry_from_doc(doc: Mapping[str, Any]) -> Entry:
    """Build an entry from its document, filling in defaults.

    The document is trusted: it was checked when it came in (``app.knowledge.models``). A conditional answer takes
    mode, group and case from the entry where it has none; null in it means none, in spite of the entry's.
    """
    question = doc["question"]
    default = Answer(
        text=doc.get("answer"),
        mode=AnswerMode(doc.get("mode", "auto")),
        group=doc.get("group"),
        case=_case(doc.get("case")),
    )
    return Entry(
        id=doc["id"],
        topic=doc.get("topic") or doc["id"],
        category=doc.get("category", ""),
        question=question,
        variants=tuple(doc.get("variants", ())),
        default=default,
        answers=tuple(_conditional(item, default) for item in doc.get("answers", ())),
        needs=frozenset(doc.get("needs", ())),
        fallback=doc.get("fallback"),
        texts={
            language: LocalisedEntry(
                question=text["question"], variants=tuple(text.get("variants", ())), answer=text.get("answer")
            )
            for language, text in doc.get("texts", {}).items()
        },
        shops=frozenset(doc.get("shops", ())),
        channels=frozenset(doc.get("channels", ())),
        languages=frozenset(doc.get("languages", ())),
        valid_from_ms=_instant(doc.get("valid_from")),
        valid_until_ms=_instant(doc.get("valid_until"), end_of_day=True),
        priority=doc.get("priority", 0),
    )


def _conditional(item: Mapping[str, Any], default: Answer) -> Answer:
    mode = item.get("mode")
    return Answer(
        text=item.get("answer"),
        mode=AnswerMode(mode) if mode else default.mode,
        group=item.get("group", default.group),
        case=_case(item["case"]) if "case" in item else default.case,
        when=_condition(item.get("when") or {}),
    )


def _condition(when: Mapping[str, Any]) -> Condition:
    trace, time = when.get("trace_older_than"), when.get("time")
    return Condition(
        order_status=frozenset(when.get("order_status", ())),
        product=frozenset(when.get("product", ())),
        tier=frozenset(when.get("tier", ())),
        channel=frozenset(when.get("channel", ())),
        order_overdue=when.get("order_overdue"),
        promo=when.get("promo"),
        trace_older_than_s=parse_duration(trace) if trace else None,
        time=parse_span(time) if time else None,
    )


def _case(case: Mapping[str, Any] | None) -> CaseSpec | None:
    return CaseSpec(kind=case["kind"], fields=dict(case.get("fields", {}))) if case else None


def _instant(text: str | None, *, end_of_day: bool = False) -> int | None:
    return parse_instant(text, end_of_day=end_of_day) if text else None


def entry_to_doc(entry: Entry) -> Document:
    """Return the document of an entry: keys in the order people write them, defaults left out."""
    doc: Document = {"id": entry.id, "category": entry.category}
    if entry.topic != entry.id:
        doc["topic"] = entry.topic
    doc["question"] = entry.question
    doc["variants"] = list(entry.variants)
    doc["mode"] = entry.default.mode.value
    if entry.default.group is not None:
        doc["group"] = entry.default.group
    if entry.default.case is not None:
        doc["case"] = _case_doc(entry.default.case)
    if entry.needs:
        doc["needs"] = sorted(entry.needs)
    if entry.answers:
        doc["answers"] = [_conditional_doc(answer, entry.default) for answer in entry.answers]
    if entry.default.text is not None:
        doc["answer"] = entry.default.text
    if entry.fallback is not None:
        doc["fallback"] = entry.fallback
    if entry.texts:
        doc["texts"] = {language: _text_doc(text) for language, text in entry.texts.items()}
    for key, values in (("shops", entry.shops), ("channels", entry.channels), ("languages", entry.languages)):
        if values:
            doc[key] = sorted(values)
    if entry.valid_from_ms is not None:
        doc["valid_from"] = rfc3339(entry.valid_from_ms)
    if entry.valid_until_ms is not None:
        doc["valid_until"] = rfc3339(entry.valid_until_ms)
    if entry.priority:
        doc["priority"] = entry.priority
    return doc


def _conditional_doc(answer: Answer, default: Answer) -> Document:
    doc: Document = {"when": _condition_doc(answer.when or Condition())}
    if answer.mode is not default.mode:
        doc["mode"] = answer.mode.value
    if answer.group != default.group:
        doc["group"] = answer.group
    if answer.case != default.case:
        doc["case"] = _case_doc(answer.case) if answer.case else None
    if answer.text is not None:
        doc["answer"] = answer.text
    return doc


def _condition_doc(when: Condition) -> Document:
    doc: Document = {}
    for key in ("order_status", "product", "tier", "channel"):
        values: frozenset[str] = getattr(when, key)
        if values:
            doc[key] = sorted(values)
    if when.order_overdue is not None:
        doc["order_overdue"] = when.order_overdue
    if when.promo is not None:
        doc["promo"] = when.promo
    if when.trace_older_than_s is not None:
        doc["trace_older_than"] = format_duration(when.trace_older_than_s)
    if when.time is not None:
        doc["time"] = format_span(when.time)
    return doc


def _case_doc(case: CaseSpec) -> Document:
    return {"kind": case.kind, "fields": dict(case.fields)} if case.fields else {"kind": case.kind}


def _text_doc(text: LocalisedEntry) -> Document:
    doc: Document = {"question": text.question}
    if text.variants:
        doc["variants"] = list(text.variants)
    if text.answer is not None:
        doc["answer"] = text.answer
    return doc


def synonyms_to_docs(groups: Iterable[SynonymGroup]) -> list[Document]:
    """Return synonym groups as ``[{"id", "words"}]``."""
    return [{"id": group.id, "words": list(group.words)} for group in groups]


def synonyms_from_docs(docs: Iterable[Mapping[str, Any]]) -> tuple[SynonymGroup, ...]:
    """Build synonym groups from what ``synonyms_to_docs`` writes."""
    return tuple(SynonymGroup(id=doc["id"], words=tuple(doc["words"])) for doc in docs)
