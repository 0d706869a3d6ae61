"""The life of the knowledge base: draft → checked → published as a version that never changes → rolled back.

Source: the design page, section 9; the contracts page, sections 1 and 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from sqlalchemy import Connection, insert

from app.core.clock import Clock
from app.core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError, StaleError
from app.core.ids import Ids
from app.domain.knowledge import Entry, Snapshot
from app.intents.fitted import fit
from app.knowledge import versions
from app.knowledge.checks import Findings, check_documents
from app.knowledge.codec import Document, entry_from_doc, entry_to_doc, synonyms_from_docs, synonyms_to_docs
from app.knowledge.drafts import Draft, DraftChange, DraftEntry, apply_change, read_draft, take_revision
from app.knowledge.export import export_folder
from app.knowledge.files import LoadResult, model_problems
from app.knowledge.models import EntryModel, document_of
from app.knowledge.problems import Place, Problem, Warned
from app.knowledge.versions import VersionInfo
from app.knowledge.yaml_text import Path as DocumentPath
from app.storage.database import Database
from app.storage.tables import audit

__all__ = ["ImportReport", "KnowledgeService", "SavedEntry"]

R = TypeVar("R")

_TRIES = 5
"""How often a change is worked out anew when somebody else changed the draft meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did to the draft: numbers of entries."""

    added: int
    changed: int
    removed: int
    unchanged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedEntry:
    """A draft entry as it was saved, and what to look at in it."""

    entry: DraftEntry
    warnings: tuple[Warned, ...]


class KnowledgeService:
    """Drafts, versions and the pointer. Checks and fitting run in threads, never on the event loop."""

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        """Take the open database, the clock, and ids for the audit log."""
        self._database = database
        self._clock = clock
        self._ids = ids

    # The draft

    async def list_entries(self) -> tuple[DraftEntry, ...]:
        """Return the draft's entries in order."""
        return tuple((await self._database.read(read_draft)).entries.values())

    async def get_entry(self, entry_id: str) -> DraftEntry:
        """Return one draft entry. Raises NotFoundError."""
        draft = await self._database.read(read_draft)
        if entry_id not in draft.entries:
            raise _no_such(entry_id)
        return draft.entries[entry_id]

    async def put_entry(
        self, document: Mapping[str, Any], *, category: str | None = None, expected_version: int | None
    ) -> SavedEntry:
        """Create or change one draft entry.

        Args:
            document: the entry as in a file; ``category`` may stand in it.
            category: its category, where the document has none; default: the one it has, or ``uncategorised``.
            expected_version: the version it was read at; None to create it.

        Raises:
            InvalidError: code ``knowledge_invalid``; it breaks the schema, or clashes with another entry.
            StaleError: somebody changed it since, or an entry of this id exists already.
            NotFoundError: there is nothing to change.
        """
        fields = dict(document)
        named = fields.pop("category", None) or category
        try:
            model = EntryModel.model_validate(fields)
        except ValidationError as error:
            entry_id = str(fields.get("id") or "")
            raise _invalid(
                model_problems(error, entry=entry_id, locate=lambda _path: Place("draft"))
            ) from None
        warnings: tuple[Warned, ...] = ()

        def build(draft: Draft) -> tuple[DraftChange, DraftEntry]:
            nonlocal warnings
            before = draft.entries.get(model.id)
            _require_version(model.id, before, expected_version)
            home = named or (before.document["category"] if before else "uncategorised")
            saved = self._entry(_canonical(document_of(model, home)), before, _next_position(draft))
            others = [each.document for each in draft.entries.values() if each.id != model.id]
            findings = _checked([*others, saved.document])
            warnings = tuple(warning for warning in findings.warnings if warning.entry == model.id)
            return DraftChange(put=(saved,)), saved

        return SavedEntry(entry=await self._change(build), warnings=warnings)

    async def delete_entry(self, entry_id: str, *, expected_version: int) -> None:
        """Remove one draft entry. Raises NotFoundError, or StaleError when it changed since it was read."""

        def build(draft: Draft) -> tuple[DraftChange, None]:
            _require_version(entry_id, draft.entries.get(entry_id), expected_version)
            return DraftChange(remove=(entry_id,)), None

        await self._change(build)

    async def import_files(self, loaded: LoadResult, *, merge: bool = False) -> ImportReport:
        """Take files into the draft, all or nothing.

        Args:
            loaded: what ``load_entries`` read.
            merge: whether the files are added to the draft by id, instead of replacing it.

        Raises:
            InvalidError: code ``knowledge_invalid``; the files have problems, or clash with the draft in a merge.
        """
        loaded.require()

        def build(draft: Draft) -> tuple[DraftChange, ImportReport]:
            return self._import(draft, loaded, merge)

        return await self._change(build)

    def _import(self, draft: Draft, loaded: LoadResult, merge: bool) -> tuple[DraftChange, ImportReport]:
        documents = {entry.id: entry_to_doc(entry) for entry in loaded.entries}
        put: list[DraftEntry] = []
        new_position = _next_position(draft)
        for index, (entry_id, document) in enumerate(documents.items()):
            before = draft.entries.get(entry_id)
            if merge:
                put.append(self._entry(document, before, new_position + index))
            else:
                put.append(replace(self._entry(document, before, index), position=index))
        changed = [entry for entry in put if entry != draft.entries.get(entry.id)]
        remove = () if merge else tuple(entry_id for entry_id in draft.entries if entry_id not in documents)
        if merge:
            kept = [each.document for each in draft.entries.values() if each.id not in documents]
            _checked([*kept, *documents.values()])
        synonyms = synonyms_to_docs(loaded.synonyms)
        if merge:
            groups = {group["id"]: group for group in draft.synonyms} | {
                group["id"]: group for group in synonyms
            }
            synonyms = list(groups.values())
        added = sum(entry.id not in draft.entries for entry in put)
        edited = sum(
            entry.id in draft.entries and entry.document != draft.entries[entry.id].document for entry in put
        )
        return DraftChange(put=changed, remove=remove, synonyms=synonyms), ImportReport(
            added=added, changed=edited, removed=len(remove), unchanged=len(put) - added - edited
        )

    def _entry(self, document: Document, before: DraftEntry | None, position: int) -> DraftEntry:
        """Return the document as a draft entry: the old one where nothing changed, else its next version."""
        if before is not None and before.document == document:
            return before
        return DraftEntry(
            document=document,
            version=before.version + 1 if before else 1,
            position=before.position if before else position,
            updated_at_ms=self._clock.now_ms(),
        )

    async def _change(self, build: Callable[[Draft], tuple[DraftChange, R]]) -> R:
        for _ in range(_TRIES):
            draft = await self._database.read(read_draft)
            change, result = await asyncio.to_thread(build, draft)
            seen = draft.revision
            if await self._database.write(lambda connection: apply_change(connection, change, seen)):  # noqa: B023
                return result
        raise _contended()

    async def export(self, folder: Path) -> tuple[Path, ...]:
        """Write the draft into ``folder``, one file a category; return the files. Raises OSError."""
        draft = await self._database.read(read_draft)
        entries = tuple(entry_from_doc(document) for document in draft.documents())
        return await asyncio.to_thread(export_folder, folder, entries, synonyms_from_docs(draft.synonyms))

    # Versions

    async def publish(self, *, author: str, note: str | None = None) -> int:
        """Check the draft, fit the matcher to it, store both as the next version, and put it in service.

        Args:
            author: who publishes, for the version and the audit log.
            note: what changed, in the author's words.

        Returns:
            The new version, in service from the commit on.

        Raises:
            InvalidError: code ``knowledge_invalid``; the version in service stays.
            ConflictError: code ``draft_empty``, or others kept changing the draft.
        """
        for _ in range(_TRIES):
            draft, latest = await self._database.read(_draft_and_latest)
            if not draft.entries:
                raise ConflictError("the draft holds no entries; import some first", code="draft_empty")
            snapshot, fitted = await asyncio.to_thread(_prepare, draft, latest + 1)
            if await self._database.write(self._publishing(draft.revision, snapshot, fitted, author, note)):
                return snapshot.version
        raise _contended()

    def _publishing(
        self, seen: int, snapshot: Snapshot, fitted: bytes, author: str, note: str | None
    ) -> Callable[[Connection], bool]:
        def write(connection: Connection) -> bool:
            # Holding the draft's revision also keeps a second publisher waiting until this one is done.
            if not take_revision(connection, seen):
                return False
            now_ms = self._clock.now_ms()
            versions.add_version(connection, snapshot, fitted, note=note, author=author, now_ms=now_ms)
            self._record(connection, author, "knowledge.published", snapshot.version, now_ms, note=note)
            return True

        return write

    async def rollback(self, version: int | None = None, *, author: str) -> int:
        """Put an earlier version in service (None: the one before) and return it. The draft stays as it is.

        Raises:
            NotFoundError: there is no such version.
            ConflictError: code ``no_previous_version``.
        """

        def write(connection: Connection) -> int:
            now_ms = self._clock.now_ms()
            target = versions.point_back(connection, version, now_ms)
            self._record(connection, author, "knowledge.rolled_back", target, now_ms)
            return target

        return await self._database.write(write)

    def _record(
        self, connection: Connection, actor: str, action: str, version: int, now_ms: int, **detail: str | None
    ) -> None:
        connection.execute(
            insert(audit).values(
                id=self._ids.next(),
                actor=actor,
                action=action,
                subject=f"knowledge/{version}",
                detail=orjson.dumps(detail).decode(),
                at_ms=now_ms,
            )
        )

    async def current(self) -> int:
        """Return the version in service; 0 when nothing was published yet."""
        return await self._database.read(versions.current_version)

    async def list_versions(self) -> tuple[VersionInfo, ...]:
        """Return every version, newest first."""
        return await self._database.read(versions.list_versions)

    async def load_snapshot(self, version: int) -> tuple[Snapshot, bytes]:
        """Return a version's snapshot and its fitted index as bytes. Raises NotFoundError."""
        stored = await self._database.read(lambda connection: versions.read_version(connection, version))
        return await asyncio.to_thread(versions.snapshot_of_version, stored), stored.fitted


def _draft_and_latest(connection: Connection) -> tuple[Draft, int]:
    return read_draft(connection), versions.latest_version(connection)


def _prepare(draft: Draft, version: int) -> tuple[Snapshot, bytes]:
    documents = draft.documents()
    _checked(documents)
    entries: tuple[Entry, ...] = tuple(entry_from_doc(document) for document in documents)
    snapshot = Snapshot(version=version, entries=entries, synonyms=synonyms_from_docs(draft.synonyms))
    return snapshot, fit(snapshot).to_bytes()


def _checked(documents: Sequence[Document]) -> Findings:
    def locate(index: int, path: DocumentPath) -> Place:
        return Place(f"draft, {documents[index]['id']}")

    findings = check_documents(documents, locate)
    if findings.problems:
        raise _invalid(findings.problems)
    return findings


def _canonical(document: Document) -> Document:
    return entry_to_doc(entry_from_doc(document))


def _next_position(draft: Draft) -> int:
    return max((entry.position for entry in draft.entries.values()), default=-1) + 1


def _require_version(entry_id: str, before: DraftEntry | None, expected: int | None) -> None:
    if before is None and expected is not None:
        raise _no_such(entry_id)
    if before is not None and before.version != expected:
        raise StaleError(
            f"entry {entry_id} exists already"
            if expected is None
            else f"somebody changed entry {entry_id} since you read it; it is at version {before.version} now"
        )


def _no_such(entry_id: str) -> NotFoundError:
    return NotFoundError(f"there is no entry {entry_id} in the draft", code="no_such_entry")


def _contended() -> ConflictError:
    return ConflictError("others keep changing the draft; try again", code="draft_contended")


def _invalid(problems: Sequence[Problem]) -> InvalidError:
    return InvalidError(
        f"refused: {problems[0]}" + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""),
        code="knowledge_invalid",
        errors=[
            FieldProblem(field=problem.field or str(problem.place), message=str(problem), fix=problem.fix)
            for problem in problems
        ],
    )
