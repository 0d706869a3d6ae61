"""Migrations on both databases: they make exactly the tables that the code uses, and can be taken back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select

from app import __version__
from app.core.errors import ConfigurationError
from app.core.metrics import Metrics
from app.storage import schema
from app.storage.database import Database
from app.storage.schema import SchemaReport, SchemaState
from app.storage.tables import POSTGRESQL_INDEXES, groups, knowledge_current, metadata

SCRIPTS = Path(schema.__file__).parent / "migrations"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, empty database."""
    database = Database(database_url, metrics=Metrics())
    await database.open()
    yield database
    await database.close()


def differences(connection: Connection) -> list[object]:
    """What autogenerate would still change."""
    context = MigrationContext.configure(
        connection,
        opts={
            "compare_type": True,
            "include_object": lambda _o, name, *_: (
                name != schema.schema_history.name and name not in POSTGRESQL_INDEXES
            ),
        },
    )
    return compare_metadata(context, metadata)


def set_revision(connection: Connection, revision: str, *, needs: str) -> None:
    connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    connection.exec_driver_sql(
        f"UPDATE schema_history SET revision = '{revision}', program = '99.1.0', needs = '{needs}'"
        f" WHERE revision = '{schema.HEAD}'"
    )


def test_the_program_knows_every_revision():
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == schema.REVISIONS


async def test_up_down_and_up_again_leaves_no_difference(database: Database, database_url: str):
    assert await schema.upgrade(database_url) == (None, schema.HEAD)
    assert await database.read(differences) == []
    await database.write(lambda connection: schema.migrate(connection, "base", down=True))
    left = await database.read(lambda connection: set(inspect(connection).get_table_names()))
    assert left <= {"alembic_version"}
    assert await schema.upgrade(database_url) == (None, schema.HEAD)
    assert await database.read(differences) == []


async def test_an_upgrade_of_a_current_database_changes_nothing(database_url: str):
    await schema.upgrade(database_url)
    assert await schema.upgrade(database_url) == (schema.HEAD, schema.HEAD)


async def test_the_default_groups_are_there_from_the_first_migration(database: Database, database_url: str):
    await schema.upgrade(database_url)
    rows = await database.read(
        lambda c: [tuple(row) for row in c.execute(select(groups.c.id, groups.c.name, groups.c.leader_id))]
    )
    assert sorted(rows) == [
        ("aftersale", "售后", None),
        ("presale", "售前", None),
        ("supervisor", "主管", None),
        ("vip", "VIP", None),
    ]


async def test_no_knowledge_is_in_service_after_the_first_migration(database: Database, database_url: str):
    await schema.upgrade(database_url)
    rows = await database.read(lambda c: [tuple(row) for row in c.execute(select(knowledge_current))])
    assert rows == [(1, 0, None, 0)]


async def test_a_database_says_how_it_stands(database: Database, database_url: str):
    assert await database.read(schema.read_schema) == SchemaReport(state=SchemaState.ABSENT, is_empty=True)
    await schema.upgrade(database_url)
    assert await database.read(schema.read_schema) == SchemaReport(
        state=SchemaState.CURRENT, revision=schema.HEAD, program=__version__
    )


async def test_a_newer_database_is_refused_and_left_as_it_is(database: Database, database_url: str):
    await schema.upgrade(database_url)
    await database.write(lambda connection: set_revision(connection, "9999", needs="9998"))
    for attempt in (schema.upgrade, schema.prepare):
        with pytest.raises(
            ConfigurationError, match=f"made by version 99.1.0 .*this is {__version__}"
        ) as caught:
            await attempt(database_url)
        assert caught.value.code == "schema_newer"
    assert await database.read(schema.current_revision) == "9999"


async def test_a_database_that_is_behind_is_refused_with_the_command_to_run(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    await schema.upgrade(database_url)
    monkeypatch.setattr(schema, "HEAD", "9999")
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "9999"))
    with pytest.raises(ConfigurationError, match="huoji db upgrade"):
        await schema.prepare(database_url)


async def test_a_migration_that_fails_leaves_no_trace(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise ConfigurationError("the machine went away")

    monkeypatch.setattr(schema, "record_step", fail)
    with pytest.raises(ConfigurationError, match="went away"):
        await schema.upgrade(database_url)
    assert await database.read(lambda connection: inspect(connection).get_table_names()) == []


async def test_a_server_makes_the_tables_of_a_fresh_embedded_database(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'new' / 'huoji.db'}"
    await schema.prepare(url)
    await schema.prepare(url)
    assert (tmp_path / "new" / "huoji.db").exists()


async def test_a_server_makes_no_tables_in_a_postgresql_database(postgres_url: str):
    with pytest.raises(ConfigurationError, match="huoji db upgrade"):
        await schema.prepare(postgres_url)


async def test_a_database_that_cannot_be_opened_is_named_without_its_password():
    with pytest.raises(ConfigurationError) as caught:
        await schema.upgrade("postgresql://huoji:hunter2@127.0.0.1:1/huoji")
    assert caught.value.code == "database_unreachable"
    assert "127.0.0.1" in caught.value.message
    assert "hunter2" not in caught.value.message


async def test_a_server_start_does_not_import_alembic(database_url: str):
    await schema.upgrade(database_url)
    code = (
        "import asyncio, sys\n"
        "from app.storage import schema\n"
        "asyncio.run(schema.prepare(sys.argv[1]))\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'alembic'])"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", code, database_url],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
