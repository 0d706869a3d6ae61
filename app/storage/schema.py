"""The schema's version: what a database has, what this program wants, and the way from one to the other.

A database may be ahead of this program and yet be worked on: then every revision that this program doesn't know only
added something, or took away what it doesn't use (docs/upgrading.md). Alembic is imported only when something is to be
changed: a server's start doesn't need it.

Source: the bad inputs, B73; the faults to survive, F45 and F46.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from app import __version__
from app.core.crashpoints import points
from app.core.errors import ConfigurationError
from app.storage.engines import make_async_engine
from app.storage.exclusive import (
    after_upgrade,
    after_writers,
    alone_in_postgresql,
    alone_in_sqlite,
    is_lock_timeout,
)
from app.storage.filelock import lock_holder
from app.storage.revisions import Kind, OldServer, find_old_servers, read_revisions
from app.storage.urls import is_sqlite, parse_database_url, sqlite_path

__all__ = [
    "HEAD",
    "REVISIONS",
    "SchemaReport",
    "SchemaState",
    "current_revision",
    "inspect_database",
    "migrate",
    "prepare",
    "read_schema",
    "require_usable",
    "upgrade",
]

REVISIONS = ("0001", "0002", "0003")
"""Every revision, oldest first; a test keeps it in step with the migration scripts."""

HEAD = REVISIONS[-1]
"""The revision that this program was made for."""

SCRIPTS = Path(__file__).with_name("migrations")
"""Where the migration scripts are."""

_TABLE_LOCK_TRIES = 15
_TABLE_LOCK_PAUSE_SECONDS = 2.0

_versions = Table("alembic_version", MetaData(), Column("version_num", Text, primary_key=True))

schema_history = Table(
    "schema_history",
    MetaData(),
    Column("revision", Text, primary_key=True),
    Column("program", Text, nullable=False),
    Column("applied_at", Text, nullable=False),
    Column("needs", Text),
)
"""Which version of the program brought each revision, and the oldest revision whose program may work on the tables since;
kept by the migrations themselves."""


class SchemaState(StrEnum):
    """How a database's schema stands to this program."""

    ABSENT = "absent"
    """No table of ours."""
    BEHIND = "behind"
    CURRENT = "current"
    AHEAD = "ahead"
    """Brought further by a later version, which left everything that this program uses."""
    NEWER = "newer"
    """Made by a later version, which took away what this program uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaReport:
    """What a database has. ``program``: the version of Huoji that brought its revision, where that is recorded;
    ``is_empty``: no table at all."""

    state: SchemaState
    revision: str | None = None
    program: str | None = None
    is_empty: bool = False


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision; None when it has none."""
    if not inspect(connection).has_table(_versions.name):
        return None
    return connection.execute(select(_versions.c.version_num)).scalars().first()


def read_schema(connection: Connection) -> SchemaReport:
    """Return how the database's schema stands to this program."""
    revision = current_revision(connection)
    if revision is None:
        is_empty = not inspect(connection).get_table_names()
        return SchemaReport(state=SchemaState.ABSENT, is_empty=is_empty)
    program = None
    if inspect(connection).has_table(schema_history.name):
        found = select(schema_history.c.program).where(schema_history.c.revision == revision)
        program = connection.execute(found).scalar()
    if revision == HEAD:
        state = SchemaState.CURRENT
    elif revision in REVISIONS:
        state = SchemaState.BEHIND
    else:
        state = SchemaState.AHEAD if _needs(connection, revision) in REVISIONS else SchemaState.NEWER
    return SchemaReport(state=state, revision=revision, program=program)


def _needs(connection: Connection, revision: str) -> str | None:
    """Return the oldest revision whose program may work on the tables; None where that isn't recorded."""
    if not _records_needs(connection):
        return None
    found = select(schema_history.c.needs).where(schema_history.c.revision == revision)
    return connection.execute(found).scalar()


def _records_needs(connection: Connection) -> bool:
    columns = inspect(connection).get_columns(schema_history.name)
    return any(column["name"] == schema_history.c.needs.name for column in columns)


def require_usable(report: SchemaReport) -> None:
    """Refuse a schema that this program can't work on.

    Raises:
        ConfigurationError: code ``schema_absent``, ``schema_behind`` or ``schema_newer``; the message says what to do.
    """
    match report.state:
        case SchemaState.CURRENT | SchemaState.AHEAD:
            return
        case SchemaState.ABSENT:
            raise ConfigurationError(
                "the database has no tables yet; make them with: huoji db upgrade", code="schema_absent"
            )
        case SchemaState.BEHIND:
            raise ConfigurationError(
                f"the database is at revision {report.revision}, this program wants {HEAD}; after a backup run: "
                "huoji db upgrade",
                code="schema_behind",
            )
        case SchemaState.NEWER:
            raise ConfigurationError(
                f"the database was made by version {report.program or 'unknown'} (revision {report.revision}); "
                f"this is {__version__} (revision {HEAD}), which needs what has been taken away since. Install that "
                "version or a later one, or go back to the backup made before the upgrade",
                code="schema_newer",
            )


async def prepare(url: str) -> None:
    """Do what a server's start needs: make the tables of a fresh embedded database, and check those of any other.

    An upgrade that is under way is waited for.

    Raises:
        ConfigurationError: the database can't be opened, or its schema is behind, newer or (on PostgreSQL) absent.
    """
    parsed = parse_database_url(url)
    if is_sqlite(parsed):
        report = await inspect_database(url)
        if report.is_empty:
            await upgrade(url)
            return
        if report.state is SchemaState.BEHIND:
            report = await _seen(parsed, lambda: asyncio.to_thread(after_writers, parsed, read_schema))
    else:
        report = await _seen(parsed, lambda: after_upgrade(parsed, read_schema))
    require_usable(report)


async def upgrade(
    url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> tuple[str | None, str]:
    """Bring a database to this program's revision; return the revision before and after.

    One that is ahead is left as it is. One upgrade runs at a time, in one transaction: one that is killed half-way leaves
    no trace. ``sleep`` waits between tries for tables that others hold.

    Raises:
        ConfigurationError: the database can't be opened or was made by a later version, a migration failed, servers
            still run whose tables it would take away (``schema_in_use``), or a long transaction keeps a table
            (``schema_locked``). Nothing was changed.
    """
    parsed = parse_database_url(url)
    work = partial(_upgrade, parsed)
    try:
        if is_sqlite(parsed):
            return await asyncio.to_thread(alone_in_sqlite, parsed, work)
        for _ in range(_TABLE_LOCK_TRIES - 1):
            try:
                return await alone_in_postgresql(parsed, work)
            except DBAPIError as error:
                if not is_lock_timeout(error):
                    raise
            await sleep(_TABLE_LOCK_PAUSE_SECONDS)
        return await alone_in_postgresql(parsed, work)
    except (SQLAlchemyError, OSError) as error:
        raise _failure(parsed, error) from error


def _upgrade(url: URL, connection: Connection) -> tuple[str | None, str]:
    report = read_schema(connection)
    if report.state is SchemaState.NEWER:
        require_usable(report)
    if report.state in (SchemaState.CURRENT, SchemaState.AHEAD):
        return report.revision, report.revision or HEAD
    revisions = read_revisions(SCRIPTS)
    known = [one.id for one in revisions]
    pending = revisions[0 if report.revision is None else known.index(report.revision) + 1 :]
    if report.revision is not None and any(one.kind is Kind.CONTRACT for one in pending):
        _refuse_old_servers(url, connection, known, pending[-1].needs)
    migrate(connection, HEAD)
    return report.revision, HEAD


def _refuse_old_servers(url: URL, connection: Connection, known: list[str], needs: str) -> None:
    path = sqlite_path(url)
    if path is None:
        servers = find_old_servers(connection, known, needs)
    else:
        holder = lock_holder(path)
        servers = [] if holder is None else [OldServer(holder.host, holder.pid)]
    if servers:
        raise ConfigurationError(
            "the upgrade takes away what a running server may still use: "
            + "; ".join(map(str, servers))
            + f". Stop it first, or update it to a version that does without (revision {needs} or later). Nothing was "
            "changed",
            code="schema_in_use",
        )


def migrate(connection: Connection, target: str, *, down: bool = False) -> None:
    """Run the migration scripts on a connection whose transaction the caller commits.

    ``target``: a revision, or ``base``. Going ``down`` is for tests: it drops what the revisions made.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    needs = {one.id: one.needs for one in read_revisions(SCRIPTS)}
    config.attributes["record"] = partial(record_step, needs=needs)
    (command.downgrade if down else command.upgrade)(config, target)


def record_step(connection: Connection, revision: str, *, is_upgrade: bool, needs: Mapping[str, str]) -> None:
    """Write down (or remove) which program brought a revision, and which it ``needs``, in the migration's transaction."""
    if not inspect(connection).has_table(schema_history.name):
        return
    connection.execute(delete(schema_history).where(schema_history.c.revision == revision))
    if is_upgrade:
        row: dict[str, Any] = {"revision": revision, "program": __version__}
        if _records_needs(connection):
            row["needs"] = needs[revision]
        now = (
            "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')" if connection.dialect.name == "sqlite" else "now()::text"
        )
        connection.execute(insert(schema_history).values(**row, applied_at=text(now)))
        points.reach("during_migration")


async def inspect_database(url: str) -> SchemaReport:
    """Look at a database from outside, without making anything.

    Raises:
        ConfigurationError: it can't be opened.
    """
    parsed = parse_database_url(url)
    path = sqlite_path(parsed)
    if path is not None and not path.exists():
        # Opening it would make an empty file.
        return SchemaReport(state=SchemaState.ABSENT, is_empty=True)
    engine = make_async_engine(parsed, pool_size=1)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(read_schema)
    except (SQLAlchemyError, OSError) as error:
        raise _failure(parsed, error) from error
    finally:
        await engine.dispose()


async def _seen(url: URL, look: Callable[[], Awaitable[SchemaReport]]) -> SchemaReport:
    try:
        return await look()
    except (SQLAlchemyError, OSError) as error:
        raise _failure(url, error) from error


def _failure(url: URL, error: Exception) -> ConfigurationError:
    if isinstance(error, DBAPIError) and is_lock_timeout(error):
        return ConfigurationError(
            "the tables of the database are locked by another upgrade or by a long transaction; nothing was changed. "
            "Try again when that has ended",
            code="schema_locked",
        )
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return ConfigurationError(
        f"cannot open the database {url.render_as_string(hide_password=True)}: {cause}",
        code="database_unreachable",
    )
