"""The knowledge base as stored: drafts, versions and what is in service, alike on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from app.core.errors import ConflictError, InvalidError, NotFoundError, StaleError
from app.core.metrics import Metrics
from app.domain.matching import Band
from app.intents.fitted import FittedIndex
from app.intents.matcher import Scope
from app.knowledge.files import LoadResult, load_entries
from app.knowledge.live import LiveKnowledge
from app.knowledge.service import ImportReport, KnowledgeService
from app.storage.database import Database
from app.storage.tables import audit, knowledge_versions, metadata
from tests.fakes import FakeClock, FakeIds

SHIP = "- {id: ship_when, question: 什么时候发货, variants: [啥时候发, 几号能发货], answer: 您好，48小时内发出。}\n"
REFUND = "- {id: refund_when, question: 退款多久到账, variants: [退款啥时候到], answer: 您好，3天内到账。}\n"
WELCOME = {"id": "hello", "question": "在吗", "answer": "您好，在的。"}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database with every table."""
    database = Database(database_url, metrics=Metrics())
    await database.open()
    await database.write(metadata.create_all)
    yield database
    await database.close()


@pytest.fixture
def service(database: Database, clock: FakeClock, ids: FakeIds) -> KnowledgeService:
    """The service on that database."""
    return KnowledgeService(database, clock, ids)


class Files:
    """Writes knowledge files and reads them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __call__(self, **files: str) -> LoadResult:
        self._count += 1
        folder = self._folder / f"files-{self._count}"
        folder.mkdir()
        for name, text in files.items():
            (folder / f"{name}.yaml").write_text(text, "utf-8")
        return load_entries([folder])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Makes loaded files out of texts."""
    return Files(tmp_path)


async def ids_of(service: KnowledgeService) -> list[str]:
    return [entry.id for entry in await service.list_entries()]


async def test_an_import_replaces_the_whole_draft(service: KnowledgeService, files: Files) -> None:
    first = await service.import_files(
        files(a=SHIP, b=REFUND, synonyms="- {id: parcel, words: [快递, 包裹]}\n")
    )
    assert first == ImportReport(added=2, changed=0, removed=0, unchanged=0)
    assert await ids_of(service) == ["ship_when", "refund_when"]
    second = await service.import_files(
        files(b=REFUND.replace("3天", "5天"), c="- {id: x, question: 问, answer: 好的}\n")
    )
    assert second == ImportReport(added=1, changed=1, removed=1, unchanged=0)
    assert [(entry.id, entry.version) for entry in await service.list_entries()] == [
        ("refund_when", 2),
        ("x", 1),
    ]


async def test_importing_the_same_files_again_changes_nothing(
    service: KnowledgeService, files: Files
) -> None:
    await service.import_files(files(a=SHIP, b=REFUND))
    before = await service.list_entries()
    assert (await service.import_files(files(a=SHIP, b=REFUND))).unchanged == 2
    assert await service.list_entries() == before


async def test_a_merge_adds_and_changes_by_id(service: KnowledgeService, files: Files) -> None:
    await service.import_files(files(a=SHIP, synonyms="- {id: parcel, words: [快递, 包裹]}\n"))
    report = await service.import_files(files(a=SHIP.replace("48", "24"), b=REFUND), merge=True)
    assert report == ImportReport(added=1, changed=1, removed=0, unchanged=0)
    assert await ids_of(service) == ["ship_when", "refund_when"]
    assert "24小时" in (await service.get_entry("ship_when")).document["answer"]


async def test_a_merge_that_gives_a_variant_to_two_entries_is_refused_whole(
    service: KnowledgeService, files: Files
) -> None:
    await service.import_files(files(a=SHIP))
    clash = "- {id: other, question: 啥时候发, answer: 您好}\n- {id: fine, question: 别的, answer: 您好}\n"
    with pytest.raises(InvalidError, match="belongs already to ship_when"):
        await service.import_files(files(b=clash), merge=True)
    assert await ids_of(service) == ["ship_when"]


async def test_files_with_problems_are_refused_whole(service: KnowledgeService, files: Files) -> None:
    with pytest.raises(InvalidError, match="did you mean answer"):
        await service.import_files(files(a=SHIP, b="- {id: x, question: 问, anwser: 您好}\n"))
    assert await ids_of(service) == []


async def test_an_entry_is_created_changed_and_removed_by_version(service: KnowledgeService) -> None:
    created = (await service.put_entry({**WELCOME, "category": "招呼"}, expected_version=None)).entry
    assert (created.version, created.document["category"]) == (1, "招呼")
    changed = (await service.put_entry({**WELCOME, "answer": "您好。"}, expected_version=1)).entry
    assert (changed.version, changed.document["category"]) == (2, "招呼")
    with pytest.raises(StaleError):
        await service.put_entry({**WELCOME, "answer": "晚了。"}, expected_version=1)
    with pytest.raises(StaleError):
        await service.delete_entry("hello", expected_version=1)
    with pytest.raises(StaleError):
        await service.put_entry(WELCOME, expected_version=None)
    await service.delete_entry("hello", expected_version=2)
    with pytest.raises(NotFoundError):
        await service.get_entry("hello")
    with pytest.raises(NotFoundError):
        await service.put_entry(WELCOME, expected_version=2)


async def test_of_two_who_change_an_entry_at_once_one_wins(service: KnowledgeService) -> None:
    await service.put_entry(WELCOME, expected_version=None)
    outcomes = await asyncio.gather(
        *(service.put_entry({**WELCOME, "answer": f"您好{n}。"}, expected_version=1) for n in range(2)),
        return_exceptions=True,
    )
    assert sorted(isinstance(outcome, StaleError) for outcome in outcomes) == [False, True]


async def test_an_entry_is_checked_against_the_rest_of_the_draft(
    service: KnowledgeService, files: Files
) -> None:
    await service.import_files(files(a=SHIP))
    with pytest.raises(InvalidError, match="unknown slot"):
        await service.put_entry({**WELCOME, "answer": "您好 {{ order.nothing }}"}, expected_version=None)
    with pytest.raises(InvalidError, match="belongs already to"):
        await service.put_entry({**WELCOME, "variants": ["啥时候发？"]}, expected_version=None)
    with pytest.raises(InvalidError) as caught:
        await service.put_entry({**WELCOME, "varaints": []}, expected_version=None)
    assert caught.value.errors[0].field == "varaints"
    assert caught.value.errors[0].fix == "did you mean variants?"
    saved = await service.put_entry({**WELCOME, "answer": "保证到"}, expected_version=None)
    assert any("tone" in str(warning) for warning in saved.warnings)


async def test_publishing_makes_versions_that_count_up_and_never_change(
    service: KnowledgeService, files: Files, database: Database
) -> None:
    assert await service.current() == 0
    await service.import_files(files(a=SHIP))
    assert await service.publish(author="wang", note="first") == 1
    await service.import_files(files(a=SHIP, b=REFUND))
    assert await service.publish(author="wang") == 2
    assert await service.current() == 2
    first, fitted = await service.load_snapshot(1)
    assert [entry.id for entry in first.entries] == ["ship_when"]
    assert FittedIndex.from_bytes(fitted).entry_ids == ("ship_when",)
    listed = await service.list_versions()
    assert [(info.version, info.entry_count, info.note, info.in_service) for info in listed] == [
        (2, 2, None, True),
        (1, 1, "first", False),
    ]
    recorded = await database.read(
        lambda c: [tuple(row) for row in c.execute(select(audit.c.actor, audit.c.action))]
    )
    assert recorded == [("wang", "knowledge.published")] * 2


async def test_publishers_at_once_get_a_version_each(service: KnowledgeService, files: Files) -> None:
    await service.import_files(files(a=SHIP))
    assert sorted(await asyncio.gather(*(service.publish(author=f"p{n}") for n in range(3)))) == [1, 2, 3]
    assert await service.current() == 3


async def test_an_empty_draft_is_not_published(service: KnowledgeService) -> None:
    with pytest.raises(ConflictError, match="no entries"):
        await service.publish(author="wang")


async def test_going_back_walks_down_the_versions(service: KnowledgeService, files: Files) -> None:
    with pytest.raises(ConflictError):
        await service.rollback(author="wang")
    await service.import_files(files(a=SHIP))
    for _ in range(3):
        await service.publish(author="wang")
    assert [await service.rollback(author="wang") for _ in range(2)] == [2, 1]
    with pytest.raises(ConflictError):
        await service.rollback(author="wang")
    # What was in service before a publication is where going back leads, whatever its number.
    assert await service.publish(author="wang") == 4
    assert await service.rollback(author="wang") == 1
    assert await service.rollback(3, author="wang") == 3
    with pytest.raises(NotFoundError):
        await service.rollback(9, author="wang")
    assert await service.current() == 3


async def test_a_draft_is_exported_into_files_that_give_the_same_draft(
    service: KnowledgeService, files: Files, tmp_path: Path
) -> None:
    await service.import_files(files(a=SHIP, b=REFUND, synonyms="- {id: parcel, words: [快递, 包裹]}\n"))
    before = await service.list_entries()
    await service.export(tmp_path / "out")
    report = await service.import_files(load_entries([tmp_path / "out"]))
    assert report.unchanged == 2
    assert await service.list_entries() == before


def scope() -> Scope:
    return Scope(shop_id="s1", channel="generic", now_ms=0)


async def test_nothing_published_means_that_nothing_is_matched(database: Database) -> None:
    live = LiveKnowledge(database)
    assert await live.refresh() is False
    assert live.current.version == 0
    understanding = live.current.matcher.understand("什么时候发货", scope=scope())
    assert [match.band for match in understanding.questions] == [Band.UNKNOWN]


async def test_what_is_published_or_rolled_back_is_in_service_after_the_next_look(
    service: KnowledgeService, files: Files, database: Database
) -> None:
    live = LiveKnowledge(database)
    await service.import_files(files(a=SHIP))
    await service.publish(author="wang")
    assert await live.refresh() is True
    assert await live.refresh() is False
    best = live.current.matcher.rank("什么时候发货", scope=scope()).best
    assert best is not None
    assert best.entry_id == "ship_when"
    held = live.current
    await service.import_files(files(b=REFUND))
    await service.publish(author="wang")
    await live.refresh()
    assert (live.current.version, live.current.matcher.version, held.version) == (2, 2, 1)
    assert live.current.snapshot.by_id.keys() == {"refund_when"}
    await service.rollback(author="wang")
    await live.refresh()
    assert live.current.snapshot.by_id.keys() == {"ship_when"}


async def test_an_index_of_another_release_is_learned_again(
    service: KnowledgeService, files: Files, database: Database
) -> None:
    await service.import_files(files(a=SHIP))
    await service.publish(author="wang")
    await database.write(lambda c: c.execute(update(knowledge_versions).values(fitted=b"of another release")))
    live = LiveKnowledge(database)
    assert await live.refresh() is True
    best = live.current.matcher.rank("什么时候发货", scope=scope()).best
    assert best is not None
    assert best.entry_id == "ship_when"
