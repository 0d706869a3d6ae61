"""Documents and exported files come back as the entries they were made from."""

from __future__ import annotations

from pathlib import Path

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.domain.knowledge import (
    Answer,
    AnswerMode,
    CaseSpec,
    Condition,
    Entry,
    LocalisedEntry,
    SynonymGroup,
)
from app.domain.orders import OrderStatus
from app.knowledge.codec import entry_from_doc, entry_to_doc, synonyms_from_docs, synonyms_to_docs
from app.knowledge.export import export_folder
from app.knowledge.files import load_entries
from app.knowledge.models import EntryModel, document_of

_words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=12)
_codes = st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True)
_cases = st.none() | st.builds(CaseSpec, kind=_codes, fields=st.dictionaries(_codes, _words, max_size=2))
_conditions = st.builds(
    Condition,
    order_status=st.frozensets(st.sampled_from([status.value for status in OrderStatus]), max_size=2),
    product=st.frozensets(_codes, max_size=2),
    order_overdue=st.none() | st.booleans(),
    promo=st.none() | st.booleans(),
    trace_older_than_s=st.none() | st.integers(1, 10**6),
    time=st.none() | st.tuples(st.integers(0, 700), st.integers(701, 1440)),
)
_texts = st.dictionaries(
    st.sampled_from(["en", "pt-BR"]),
    st.builds(LocalisedEntry, question=_words, variants=st.just(()), answer=st.none() | _words),
    max_size=2,
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Draw an entry that a file may hold."""
    default = Answer(
        text=draw(_words),
        mode=draw(st.sampled_from(AnswerMode)),
        group=draw(st.none() | _codes),
        case=draw(_cases),
    )
    conditional = st.builds(
        Answer,
        text=_words,
        mode=st.sampled_from(AnswerMode),
        group=st.none() | _codes,
        case=_cases,
        when=_conditions,
    )
    return Entry(
        id=draw(_codes),
        topic=draw(_codes),
        category=draw(st.sampled_from(["发货", "ship", "A/B", "a_b"])),
        question=draw(_words),
        variants=tuple(draw(st.lists(_words, max_size=3))),
        default=default,
        answers=tuple(draw(st.lists(conditional, max_size=2))),
        needs=draw(st.frozensets(st.sampled_from(["order", "product"]))),
        fallback=draw(st.none() | _words),
        texts=draw(_texts),
        shops=draw(st.frozensets(_codes, max_size=2)),
        valid_from_ms=draw(st.none() | st.integers(0, 10**12)),
        valid_until_ms=draw(st.none() | st.integers(10**12 + 1, 4 * 10**12)),
        priority=draw(st.integers(-1000, 1000)),
    )


@given(entries())
def test_an_entry_survives_its_document_as_json(entry: Entry) -> None:
    assert entry_from_doc(orjson.loads(orjson.dumps(entry_to_doc(entry)))) == entry


@given(entries())
def test_a_document_passes_the_checks_of_a_file(entry: Entry) -> None:
    document = entry_to_doc(entry)
    category = document.pop("category")
    assert entry_from_doc(document_of(EntryModel.model_validate(document), category)) == entry


def test_synonym_groups_survive_their_documents() -> None:
    groups = (SynonymGroup(id="parcel", words=("快递", "包裹")),)
    assert synonyms_from_docs(synonyms_to_docs(groups)) == groups


def test_an_exported_folder_comes_back_the_same(tmp_path: Path) -> None:
    def entry(name: str, category: str, text: str) -> Entry:
        return Entry(
            id=name,
            topic=name,
            category=category,
            question=f"问{name}",
            variants=(f"{name} no", "88" + name, f"'{name}'"),
            default=Answer(text=text, case=CaseSpec(kind="return", fields={"cause": "true"})),
        )

    given_entries = (
        entry("a", "招呼", "您好: # 不是注释\n第二行"),
        entry("b", "A/B", "no"),
        entry("c", "a_b", "0123"),
        entry("d", "synonyms", "- 您好"),
    )
    synonyms = (SynonymGroup(id="parcel", words=("快递", "no")),)
    files = export_folder(tmp_path / "out", given_entries, synonyms)
    assert len({path.name.casefold() for path in files}) == 5
    result = load_entries([tmp_path / "out"])
    assert [str(problem) for problem in result.problems] == []
    assert sorted(result.entries, key=lambda each: each.id) == list(given_entries)
    assert result.synonyms == synonyms
