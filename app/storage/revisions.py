"""What each migration says of itself: whether the programs from before it go on working on what it leaves.

A script names its ``kind``. One that takes something away also names what it ``needs``: the oldest revision whose program
does without. The database keeps that of its own revision, so that a program can tell whether it may work on a schema with
revisions that it doesn't know.

Source: the faults to survive, F45; docs/upgrading.md has the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, null, select, text

from app.core.errors import ConfigurationError
from app.storage.tables import processes

__all__ = ["Kind", "OldServer", "Revision", "find_old_servers", "read_revisions"]


class Kind(StrEnum):
    """What a revision does to the programs that run."""

    EXPAND = "expand"
    """Only adds: every program that worked on the tables goes on working."""
    DATA = "data"
    """Changes rows of tables that stay small, in a way that these programs understand."""
    CONTRACT = "contract"
    """Takes away or tightens what programs of ``needs`` and later don't use any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One migration. ``needs``: the oldest revision whose program works on the tables once this one is applied."""

    id: str
    kind: Kind
    needs: str


@dataclass(frozen=True, slots=True)
class OldServer:
    """A running server that a revision would pull the tables from under. Unknown ``version``: on SQLite."""

    host: str
    pid: int
    version: str | None = None

    def __str__(self) -> str:
        version = "" if self.version is None else f", version {self.version}"
        return f"pid {self.pid} on {self.host}{version}"


def read_revisions(scripts: Path) -> tuple[Revision, ...]:
    """Read what the migrations of a folder declare, oldest first.

    Raises:
        ConfigurationError: one declares no kind, or needs what isn't there before it.
    """
    from alembic.script import ScriptDirectory

    found: list[Revision] = []
    for script in reversed(list(ScriptDirectory(str(scripts)).walk_revisions())):
        found.append(_revision(script.revision, script.module, found))
    return tuple(found)


def _revision(name: str, module: Any, before: Sequence[Revision]) -> Revision:
    try:
        kind = Kind(getattr(module, "kind", ""))
    except ValueError:
        raise ConfigurationError(
            f"migration {name} has no kind; it must say kind = {' | '.join(map(repr, map(str, Kind)))}"
        ) from None
    needs = getattr(module, "needs", None)
    if kind is not Kind.CONTRACT:
        if needs is not None:
            raise ConfigurationError(f"migration {name} is no contract and needs no revision")
        return Revision(id=name, kind=kind, needs=before[-1].needs if before else name)
    known = [one.id for one in before]
    if needs not in known:
        raise ConfigurationError(
            f"migration {name} takes something away and must name, as `needs`, the revision before it whose program "
            "does without"
        )
    return Revision(id=name, kind=kind, needs=max(needs, before[-1].needs, key=known.index))


def find_old_servers(connection: Connection, known: Sequence[str], needs: str) -> list[OldServer]:
    """Return the servers on a PostgreSQL database whose programs are older than a revision.

    ``known``: every revision in order. A server that didn't say what it is of counts as older.
    """
    tables = inspect(connection)
    if not tables.has_table(processes.name):
        return []
    says = any(column["name"] == processes.c.revision.name for column in tables.get_columns(processes.name))
    rows = connection.execute(
        select(
            processes.c.host,
            processes.c.pid,
            processes.c.version,
            (processes.c.revision if says else null()).label("revision"),
        )
        .where(processes.c.lease_until_ms >= text("(extract(epoch FROM clock_timestamp()) * 1000)::bigint"))
        .order_by(processes.c.joined)
    )
    enough = known[known.index(needs) :]
    return [OldServer(row.host, row.pid, row.version) for row in rows if row.revision not in enough]
