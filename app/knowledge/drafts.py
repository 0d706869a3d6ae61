"""The draft as stored: entry documents and synonym groups, changed only by whoever saw its latest state.

Every change is made in two steps, so that slow checks never run inside the writer's transaction: the draft is read
with its revision, the change is worked out, and it is written only if the revision still is the one that was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Connection, bindparam, delete, select, update

from app.knowledge.codec import Document
from app.storage.database import upsert
from app.storage.tables import knowledge_entries, knowledge_synonyms, revisions

__all__ = ["Draft", "DraftChange", "DraftEntry", "apply_change", "read_draft", "take_revision"]

_REVISION = "knowledge_draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftEntry:
    """An entry of the draft: its document, its version (for optimistic locking) and when it last changed."""

    document: Document
    version: int
    position: int
    updated_at_ms: int

    @property
    def id(self) -> str:
        """The entry's id."""
        return self.document["id"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The whole draft as it stood at ``revision``: entries in their order, by id, and synonym groups."""

    revision: int
    entries: Mapping[str, DraftEntry]
    synonyms: Sequence[Document]

    def documents(self) -> list[Document]:
        """Return the entries' documents in order."""
        return [entry.document for entry in self.entries.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftChange:
    """What to write: entries by id, entries to remove, and the synonym groups as they shall be (None: as they are)."""

    put: Sequence[DraftEntry] = ()
    remove: Sequence[str] = field(default=())
    synonyms: Sequence[Document] | None = None


def read_draft(connection: Connection) -> Draft:
    """Return the draft."""
    # The revision first: should the rest be newer, the change that builds on it is refused and worked out again.
    revision = connection.scalar(select(revisions.c.value).where(revisions.c.name == _REVISION)) or 0
    entries = connection.execute(
        select(knowledge_entries).order_by(knowledge_entries.c.position, knowledge_entries.c.id)
    )
    synonyms = connection.execute(select(knowledge_synonyms).order_by(knowledge_synonyms.c.id))
    return Draft(
        revision=revision,
        entries={
            row.id: DraftEntry(
                document=orjson.loads(row.document),
                version=row.version,
                position=row.position,
                updated_at_ms=row.updated_at_ms,
            )
            for row in entries
        },
        synonyms=[{"id": row.id, "words": orjson.loads(row.words)} for row in synonyms],
    )


def take_revision(connection: Connection, seen: int) -> bool:
    """Raise the draft's revision if it still is ``seen``; whoever gets True holds it until the commit."""
    connection.execute(upsert(connection, revisions).values(name=_REVISION, value=0).on_conflict_do_nothing())
    taken = connection.execute(
        update(revisions)
        .where(revisions.c.name == _REVISION, revisions.c.value == seen)
        .values(value=seen + 1)
    )
    return taken.rowcount == 1


def apply_change(connection: Connection, change: DraftChange, seen: int) -> bool:
    """Write a change that was worked out from revision ``seen``; False, and nothing written, when it is outdated."""
    if not take_revision(connection, seen):
        return False
    if change.remove:
        connection.execute(
            delete(knowledge_entries).where(knowledge_entries.c.id == bindparam("gone")),
            [{"gone": entry_id} for entry_id in change.remove],
        )
    if change.put:
        statement = upsert(connection, knowledge_entries)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["id"],
                set_={
                    name: statement.excluded[name]
                    for name in ("category", "position", "document", "version", "updated_at_ms")
                },
            ),
            [
                {
                    "id": entry.id,
                    "category": entry.document["category"],
                    "position": entry.position,
                    "document": orjson.dumps(entry.document).decode(),
                    "version": entry.version,
                    "updated_at_ms": entry.updated_at_ms,
                }
                for entry in change.put
            ],
        )
    if change.synonyms is not None:
        connection.execute(delete(knowledge_synonyms))
        if change.synonyms:
            connection.execute(
                knowledge_synonyms.insert(),
                [
                    {"id": group["id"], "words": orjson.dumps(group["words"]).decode()}
                    for group in change.synonyms
                ],
            )
    return True
