"""Every migration does what its kind allows, so that two versions of the program can work on one database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.errors import ConfigurationError
from app.core.metrics import Metrics
from app.storage import schema
from app.storage.database import Database
from app.storage.revisions import read_revisions
from app.storage.tables import metadata
from tests.migrations import COLUMN, LaterVersion, Step
from tests.schema_changes import GROWING, done_by, objections

DATA = "kind = 'data'"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, empty database."""
    database = Database(database_url, metrics=Metrics())
    await database.open()
    yield database
    await database.close()


async def objections_to(database: Database, before: str, revision: str) -> list[str]:
    """What a revision does to a database of the one before it, and mustn't."""
    if before != "base":
        await database.write(lambda connection: schema.migrate(connection, before))
    done = await database.write(lambda connection: done_by(connection, lambda c: schema.migrate(c, revision)))
    kinds = {one.id: one.kind for one in read_revisions(schema.SCRIPTS)}
    return objections(kinds[revision], *done)


@pytest.mark.parametrize("revision", schema.REVISIONS)
async def test_every_revision_does_no_more_than_its_kind_allows(database: Database, revision: str):
    before = ("base", *schema.REVISIONS)[schema.REVISIONS.index(revision)]
    assert await objections_to(database, before, revision) == []


FORBIDDEN = {
    "a table is dropped": ("op.drop_table('login_tries')", "drops login_tries"),
    "a table is renamed": ("op.rename_table('login_tries', 'tries')", "drops login_tries"),
    "a column is dropped": ("op.drop_column('inbox', 'reason')", "inbox: drops reason"),
    "a column is renamed": (
        "op.execute('ALTER TABLE inbox RENAME COLUMN reason TO why')",
        "inbox: drops reason",
    ),
    "a type is changed": (
        "with op.batch_alter_table('notices') as batch: batch.alter_column('text', type_=sa.String(10))",
        "notices: makes text VARCHAR(10) instead of TEXT",
    ),
    "a column mustn't be empty any more": (
        "with op.batch_alter_table('notices') as batch: batch.alter_column('seen_at_ms', nullable=False)",
        "notices: seen_at_ms mustn't be empty any more",
    ),
    "a default is taken away": (
        "with op.batch_alter_table('inbox') as batch: batch.alter_column('tries', server_default=None)",
        "inbox: tries loses its default",
    ),
    "a column must be filled that older programs don't know": (
        (
            "with op.batch_alter_table('notices') as batch: "
            "batch.add_column(sa.Column('level', sa.Text(), nullable=False))"
        ),
        "notices: adds level, which older programs leave empty",
    ),
    "a rule is added that older programs don't keep": (
        "op.create_index('uq_notices', 'notices', ['subject'], unique=True)",
        "notices: adds unique index uq_notices on ['subject']",
    ),
    "an index is dropped": (
        "op.drop_index('ix_outbox_message_id', 'outbox')",
        "outbox: drops ix_outbox_message_id on ['message_id']",
    ),
    "rows are changed": ("op.execute('UPDATE inbox SET tries = 0')", "writes the rows of inbox"),
}


@pytest.mark.parametrize(("operations", "objection"), FORBIDDEN.values(), ids=FORBIDDEN.keys())
async def test_an_expanding_revision_that_takes_something_away_is_caught(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operations: str,
    objection: str,
):
    LaterVersion(tmp_path, [Step(operations)]).take_over(monkeypatch)
    assert objection in await objections_to(database, schema.REVISIONS[-2], schema.HEAD)


async def test_an_expanding_revision_may_add(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    table = "op.create_table('moods', sa.Column('id', sa.Text(), primary_key=True)); op.execute('DELETE FROM moods')"
    filled = "op.add_column('notices', sa.Column('level', sa.Text(), nullable=False, server_default='low'))"
    index = "op.create_index('ix_notices_subject', 'notices', ['subject'])"
    step = Step("; ".join((COLUMN, table, filled, index)))
    LaterVersion(tmp_path, [step]).take_over(monkeypatch)
    assert await objections_to(database, schema.REVISIONS[-2], schema.HEAD) == []


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ("op.execute(\"UPDATE groups SET name = 'x'\")", []),
        ("op.execute('UPDATE messages SET error = NULL')", ["writes the rows of messages"]),
        (COLUMN, ["changes tables"]),
    ],
)
async def test_a_revision_of_data_changes_rows_of_small_tables_alone(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operations: str,
    expected: list[str],
):
    LaterVersion(tmp_path, [Step(operations, DATA)]).take_over(monkeypatch)
    assert await objections_to(database, schema.REVISIONS[-2], schema.HEAD) == expected


def test_every_growing_table_is_one_of_ours():
    assert metadata.tables.keys() >= GROWING


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ("", "9001 has no kind"),
        ("kind = 'shrink'", "9001 has no kind"),
        ("kind = 'contract'", "9001 takes something away and must name"),
        ("kind = 'contract'; needs = '9001'", "the revision before it"),
        ("kind = 'expand'; needs = '0002'", "is no contract"),
    ],
)
def test_a_revision_has_to_say_what_it_is(tmp_path: Path, declared: str, complaint: str):
    later = LaterVersion(tmp_path, [Step(declared=declared)])
    with pytest.raises(ConfigurationError, match=complaint):
        read_revisions(later.scripts)


def test_programs_may_be_older_until_something_is_taken_away(tmp_path: Path):
    steps = [
        Step(),
        Step(declared="kind = 'contract'; needs = '0002'"),
        Step(declared=DATA),
        Step(declared="kind = 'contract'; needs = '0001'"),
        Step(declared="kind = 'contract'; needs = '9001'"),
    ]
    later = LaterVersion(tmp_path, steps)
    needs = {one.id: one.needs for one in read_revisions(later.scripts)}
    assert [needs[str(one)] for one in range(9001, 9006)] == ["0001", "0002", "0002", "0002", "9001"]
