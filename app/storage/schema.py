"""The schema's version: what a database has, what this program wants, and the way from one to the other.

Alembic is imported only when something is to be changed: a server's start doesn't need it.

Source: the bad inputs, B73; the faults to survive, F46.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    Text,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from app import __version__
from app.core.crashpoints import points
from app.core.errors import ConfigurationError
from app.storage.engines import make_async_engine, make_sync_writer_engine
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
    "require_current",
    "upgrade",
]

REVISIONS = ("0001", "0002")
"""Every revision, oldest first; a test keeps it in step with the migration scripts."""

HEAD = REVISIONS[-1]
"""The revision that this program works on."""

_ADVISORY_LOCK = 0x48554F4A49
"""PostgreSQL's lock for one migration at a time: "HUOJI" as a number."""

_versions = Table("alembic_version", MetaData(), Column("version_num", Text, primary_key=True))

schema_history = Table(
    "schema_history",
    MetaData(),
    Column("revision", Text, primary_key=True),
    Column("program", Text, nullable=False),
    Column("applied_at", Text, nullable=False),
)
"""Which version of the program brought each revision; kept by the migrations themselves."""


class SchemaState(StrEnum):
    """How a database's schema stands to this program."""

    ABSENT = "absent"
    """No table of ours."""
    BEHIND = "behind"
    CURRENT = "current"
    NEWER = "newer"
    """Made by a later version, which has revisions that this one doesn't know."""


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
    else:
        state = SchemaState.BEHIND if revision in REVISIONS else SchemaState.NEWER
    return SchemaReport(state=state, revision=revision, program=program)


def require_current(report: SchemaReport) -> None:
    """Refuse a schema that this program can't work on.

    Raises:
        ConfigurationError: code ``schema_absent``, ``schema_behind`` or ``schema_newer``; the message says what to do.
    """
    match report.state:
        case SchemaState.CURRENT:
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
                f"this is {__version__} (revision {HEAD}). Install that version or a later one",
                code="schema_newer",
            )


async def prepare(url: str) -> None:
    """Do what a server's start needs: make the tables of a fresh embedded database, and check those of any other.

    Raises:
        ConfigurationError: the database can't be opened, or its schema is behind, newer or (on PostgreSQL) absent.
    """
    parsed = parse_database_url(url)
    report = await inspect_database(url)
    if report.is_empty and is_sqlite(parsed):
        await upgrade(url)
        return
    require_current(report)


async def upgrade(url: str) -> tuple[str | None, str]:
    """Bring a database to this program's revision; return the revision before and after.

    One migration runs at a time, in one transaction: one that is killed half-way leaves no trace.

    Raises:
        ConfigurationError: the database can't be opened or was made by a later version, or a migration failed.
    """

    def run(connection: Connection) -> tuple[str | None, str]:
        if connection.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        report = read_schema(connection)
        if report.state is SchemaState.NEWER:
            require_current(report)
        if report.state is not SchemaState.CURRENT:
            migrate(connection, HEAD)
        return report.revision, HEAD

    parsed = parse_database_url(url)
    try:
        if is_sqlite(parsed):
            return await asyncio.to_thread(_in_sqlite, parsed, run)
        engine = create_async_engine(parsed, connect_args={"timeout": 5})
        try:
            async with engine.begin() as connection:
                await connection.execute(text("SET LOCAL lock_timeout = '30s'"))
                return await connection.run_sync(run)
        finally:
            await engine.dispose()
    except (SQLAlchemyError, OSError) as error:
        raise _failure(parsed, error) from error


def migrate(connection: Connection, target: str, *, down: bool = False) -> None:
    """Run the migration scripts on a connection whose transaction the caller commits.

    ``target``: a revision, or ``base``. Going ``down`` is for tests: it drops what the revisions made.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("app.storage") / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["record"] = record_step
    (command.downgrade if down else command.upgrade)(config, target)


def record_step(connection: Connection, revision: str, *, is_upgrade: bool) -> None:
    """Write down (or remove) which program brought a revision, in the migration's own transaction."""
    if not inspect(connection).has_table(schema_history.name):
        return
    connection.execute(delete(schema_history).where(schema_history.c.revision == revision))
    if is_upgrade:
        row: dict[str, Any] = {"revision": revision, "program": __version__}
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


def _in_sqlite(url: URL, function: Any) -> Any:
    path = sqlite_path(url)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine: Engine = make_sync_writer_engine(url)

    def leave_references(connection: Any, _record: object) -> None:
        # A table that is rebuilt must not take the rows that point at it along.
        connection.execute("PRAGMA foreign_keys=OFF")

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", leave_references)
    event.listen(engine, "begin", begin)
    try:
        with engine.begin() as connection:
            result = function(connection)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
            if broken is not None:
                raise ConfigurationError(
                    f"the migration would leave rows of {broken[0]} without what they refer to"
                )
            return result
    finally:
        engine.dispose()


def _failure(url: URL, error: Exception) -> ConfigurationError:
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return ConfigurationError(
        f"cannot open the database {url.render_as_string(hide_password=True)}: {cause}",
        code="database_unreachable",
    )
