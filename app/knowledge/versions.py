"""Published versions as stored: written once, never changed; a pointer says which one is in service."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from sqlalchemy import Connection, func, insert, select

from app.core.errors import ConflictError, InvariantError, NotFoundError
from app.domain.knowledge import Snapshot
from app.knowledge.codec import entry_from_doc, entry_to_doc, synonyms_from_docs, synonyms_to_docs
from app.storage.database import bump_revision, upsert
from app.storage.tables import knowledge_current, knowledge_versions

__all__ = [
    "StoredVersion",
    "VersionInfo",
    "add_version",
    "current_version",
    "latest_version",
    "list_versions",
    "point_back",
    "read_version",
    "snapshot_of_version",
]

_POINTER = 1
_REVISION = "knowledge"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """A published version without its content."""

    version: int
    entry_count: int
    note: str | None
    author: str
    created_at_ms: int
    in_service: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """A published version as it lies in the database; ``fitted`` is the matcher's index."""

    version: int
    entries: str
    synonyms: str
    fitted: bytes


def current_version(connection: Connection) -> int:
    """Return the version in service; 0 when none was ever published."""
    return connection.scalar(select(knowledge_current.c.version)) or 0


def latest_version(connection: Connection) -> int:
    """Return the highest version that was ever published, or 0."""
    return connection.scalar(select(func.max(knowledge_versions.c.version))) or 0


def read_version(connection: Connection, version: int) -> StoredVersion:
    """Return a version's content.

    Raises:
        NotFoundError: there is no such version.
    """
    columns = knowledge_versions.c
    row = connection.execute(
        select(columns.entries, columns.synonyms, columns.fitted).where(columns.version == version)
    ).one_or_none()
    if row is None:
        raise _no_such(version)
    return StoredVersion(
        version=version, entries=row.entries, synonyms=row.synonyms, fitted=bytes(row.fitted)
    )


def snapshot_of_version(stored: StoredVersion) -> Snapshot:
    """Build the snapshot of a stored version: some 10 ms for 200 entries, so off the event loop."""
    return Snapshot(
        version=stored.version,
        entries=tuple(entry_from_doc(document) for document in orjson.loads(stored.entries)),
        synonyms=synonyms_from_docs(orjson.loads(stored.synonyms)),
    )


def list_versions(connection: Connection) -> tuple[VersionInfo, ...]:
    """Return every version, newest first."""
    current, columns = current_version(connection), knowledge_versions.c
    rows = connection.execute(
        select(
            columns.version, columns.entry_count, columns.note, columns.author, columns.created_at_ms
        ).order_by(columns.version.desc())
    )
    return tuple(
        VersionInfo(
            version=row.version,
            entry_count=row.entry_count,
            note=row.note,
            author=row.author,
            created_at_ms=row.created_at_ms,
            in_service=row.version == current,
        )
        for row in rows
    )


def add_version(
    connection: Connection, snapshot: Snapshot, fitted: bytes, *, note: str | None, author: str, now_ms: int
) -> None:
    """Store a version and put it in service. The caller holds the draft's revision, so that versions count up."""
    if snapshot.version != latest_version(connection) + 1:
        raise InvariantError(f"version {snapshot.version} does not follow the latest one")
    previous = connection.scalar(select(knowledge_current.c.version).with_for_update()) or None
    connection.execute(
        insert(knowledge_versions).values(
            version=snapshot.version,
            entries=orjson.dumps([entry_to_doc(entry) for entry in snapshot.entries]).decode(),
            synonyms=orjson.dumps(synonyms_to_docs(snapshot.synonyms)).decode(),
            fitted=fitted,
            entry_count=len(snapshot.entries),
            note=note,
            author=author,
            created_at_ms=now_ms,
        )
    )
    _point_at(connection, snapshot.version, previous, now_ms)


def point_back(connection: Connection, version: int | None, now_ms: int) -> int:
    """Put an earlier version in service and return it.

    Args:
        connection: within a transaction.
        version: which one; None for the one that was in service before the present one.
        now_ms: the time, in milliseconds UTC.

    Raises:
        NotFoundError: there is no such version.
        ConflictError: nothing was published before, code ``no_previous_version``.
    """
    pointer = connection.execute(select(knowledge_current).with_for_update()).one_or_none()
    if version is None:
        version = pointer.previous if pointer is not None else None
        if version is None:
            raise ConflictError("there is no earlier version to go back to", code="no_previous_version")
    columns = knowledge_versions.c
    if connection.scalar(select(columns.version).where(columns.version == version)) is None:
        raise _no_such(version)
    if pointer is not None and pointer.version == version:
        return version
    # Going back again and again walks down the versions instead of to and fro.
    before = connection.scalar(select(func.max(columns.version)).where(columns.version < version))
    _point_at(connection, version, before, now_ms)
    return version


def _point_at(connection: Connection, version: int, previous: int | None, now_ms: int) -> None:
    values = {"version": version, "previous": previous, "changed_at_ms": now_ms}
    connection.execute(
        upsert(connection, knowledge_current)
        .values(id=_POINTER, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values)
    )
    bump_revision(connection, _REVISION)


def _no_such(version: int) -> NotFoundError:
    return NotFoundError(f"there is no knowledge version {version}", code="no_such_version")
