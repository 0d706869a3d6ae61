"""Two versions of the program on one database, upgrades that meet, and what stops them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from app import __version__
from app.core.errors import ConfigurationError
from app.storage import leases, schema
from app.storage.exclusive import alone_in_postgresql, alone_in_sqlite
from app.storage.filelock import FileLock
from app.storage.schema import SchemaState
from app.storage.tables import notices
from app.storage.urls import is_sqlite, parse_database_url, sqlite_path
from tests.huoji_process import HuojiProcess
from tests.installation import QUESTIONS, environment, install
from tests.marketplace import Marketplace
from tests.migrations import LaterVersion, Step
from tests.waiting import eventually

CONTRACT = Step("op.drop_table('login_tries')", f"kind = 'contract'; needs = '{schema.HEAD}'")
"""Programs of this version do without: so it says."""
TOO_MUCH = Step("op.drop_table('login_tries')", "kind = 'contract'; needs = '9001'")
"""This version's programs can't do without."""
LOCK = 0x48554F4A49


async def change(url: str, work: Callable[[Connection], object]) -> None:
    """Do something to a database in one transaction."""
    parsed = parse_database_url(url)
    if is_sqlite(parsed):
        await asyncio.to_thread(alone_in_sqlite, parsed, work)
    else:
        await alone_in_postgresql(parsed, work)


async def upgrade_as(later: LaterVersion, url: str) -> tuple[str | None, str]:
    """Have a later version upgrade a database."""
    with pytest.MonkeyPatch.context() as patch:
        later.take_over(patch)
        return await schema.upgrade(url)


async def test_a_database_that_a_later_version_only_added_to_is_worked_on(database_url: str, tmp_path: Path):
    await schema.upgrade(database_url)
    later = LaterVersion(tmp_path, [Step(), CONTRACT])
    assert await upgrade_as(later, database_url) == (schema.HEAD, "9002")
    report = await schema.inspect_database(database_url)
    assert (report.state, report.revision, report.program) == (SchemaState.AHEAD, "9002", "99.1.0")
    schema.require_usable(report)
    await schema.prepare(database_url)
    assert await schema.upgrade(database_url) == ("9002", "9002")


async def test_a_database_that_lacks_what_this_program_uses_is_refused_and_left(
    database_url: str, tmp_path: Path
):
    await schema.upgrade(database_url)
    later = LaterVersion(tmp_path, [Step(), TOO_MUCH, Step("pass", "kind = 'data'")])
    await upgrade_as(later, database_url)
    for attempt in (schema.prepare, schema.upgrade):
        with pytest.raises(
            ConfigurationError, match=rf"by version 99\.1\.0 .*9003.*this is {__version__} .*backup"
        ) as caught:
            await attempt(database_url)
        assert caught.value.code == "schema_newer"
    assert (await schema.inspect_database(database_url)).revision == "9003"


async def test_the_real_program_serves_on_a_database_that_is_ahead(database_url: str, tmp_path: Path):
    """Signed webhooks are taken and answered, and the program says that it is ready."""
    question, answer = next(iter(QUESTIONS.items()))
    async with Marketplace() as market:
        await install(database_url, tmp_path, market)
        table = "op.create_table('moods', sa.Column('id', sa.Text(), primary_key=True))"
        filled = (
            "op.add_column('messages', sa.Column('mood', sa.Text(), nullable=False, server_default='good'))"
        )
        index = "op.create_index('ix_outbox_done_at_ms', 'outbox', ['done_at_ms'])"
        steps = [Step(), Step(table), Step(filled), Step(index)]
        await upgrade_as(LaterVersion(tmp_path, steps), database_url)
        with HuojiProcess(tmp_path / "old", environment=environment(database_url)) as program:
            for number in range(3):
                said = await market.say(
                    program.url, question, message_id=f"m-{number}", conversation_id="c-1"
                )
                assert said == 200
            for reply in await market.wait_for(3, timeout=30):
                assert answer in reply.text
            assert await asyncio.to_thread(program.terminate) == 0, program.log


async def test_upgrades_that_begin_at_once_do_the_work_once(database_url: str, tmp_path: Path):
    await schema.upgrade(database_url)
    later = LaterVersion(tmp_path, [Step(), Step("op.drop_column('inbox', 'mood')", CONTRACT.declared)])
    with pytest.MonkeyPatch.context() as patch:
        later.take_over(patch)
        outcomes = await asyncio.gather(*(schema.upgrade(database_url) for _ in range(4)))
    assert sorted(outcomes) == [(schema.HEAD, "9002"), *[("9002", "9002")] * 3]


async def test_first_upgrades_that_begin_at_once_make_the_tables_once(database_url: str):
    outcomes = await asyncio.gather(*(schema.upgrade(database_url) for _ in range(4)))
    assert sorted(outcomes, key=str) == [*[(schema.HEAD, schema.HEAD)] * 3, (None, schema.HEAD)]


@pytest.mark.parametrize("passes", [0, 1])
async def test_an_upgrade_killed_between_two_revisions_leaves_no_trace_and_runs_again(
    database_url: str, tmp_path: Path, passes: int
):
    await schema.upgrade(database_url)
    row = {"id": 1, "kind": "k", "subject": "s", "text": "t", "created_at_ms": 0}
    await change(database_url, lambda connection: connection.execute(insert(notices), row))
    renamed = "with op.batch_alter_table('notices') as b: b.alter_column('text', new_column_name='words')"
    later = LaterVersion(tmp_path, [Step(), Step(renamed, CONTRACT.declared)])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUOJI_")}
    usual = {**inherited, **environment(database_url)}

    def run(**more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            later.command("db", "upgrade"), env={**usual, **more}, capture_output=True, check=False
        )

    deadly = {"HUOJI_CHAOS": "1", "HUOJI_CHAOS_CRASH_AT": f"during_migration:{passes}"}
    dead = await asyncio.to_thread(run, **deadly)
    assert dead.returncode == -9, dead.stderr
    assert (await schema.inspect_database(database_url)).state is SchemaState.CURRENT
    await schema.prepare(database_url)
    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stderr
    assert (await schema.inspect_database(database_url)).revision == "9002"
    found: list[str] = []
    await change(
        database_url, lambda connection: found.extend(connection.scalars(text("SELECT words FROM notices")))
    )
    assert found == ["t"]


# --- servers that still run ---


async def test_nothing_is_taken_away_from_under_an_older_server(postgres_url: str, tmp_path: Path):
    await schema.upgrade(postgres_url)

    def join(connection: Connection) -> None:
        leases.register(connection, "a", host="shop-1", pid=7, place="", version="0.1.0", lease_ms=60_000)

    await change(postgres_url, join)
    with pytest.raises(
        ConfigurationError, match=r"pid 7 on shop-1, version 0\.1\.0.*Stop it first"
    ) as caught:
        await upgrade_as(LaterVersion(tmp_path / "too much", [Step(), TOO_MUCH]), postgres_url)
    assert caught.value.code == "schema_in_use"
    assert (await schema.inspect_database(postgres_url)).state is SchemaState.CURRENT
    does_without = LaterVersion(tmp_path / "enough", [Step(), CONTRACT])
    assert await upgrade_as(does_without, postgres_url) == (schema.HEAD, "9002")


async def test_a_server_that_does_not_say_what_it_is_of_counts_as_older_until_its_lease_is_over(
    postgres_url: str, tmp_path: Path
):
    await schema.upgrade(postgres_url)

    def join(connection: Connection) -> None:
        leases.register(connection, "a", host="shop-1", pid=7, place="", version="0.1.0", lease_ms=60_000)
        connection.execute(text("UPDATE processes SET revision = NULL"))

    await change(postgres_url, join)
    later = LaterVersion(tmp_path, [Step(), CONTRACT])
    with pytest.raises(ConfigurationError, match="a running server may still use"):
        await upgrade_as(later, postgres_url)
    await change(postgres_url, lambda c: c.execute(text("UPDATE processes SET lease_until_ms = 0")))
    assert await upgrade_as(later, postgres_url) == (schema.HEAD, "9002")


async def test_nothing_is_taken_away_from_an_embedded_database_in_use(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await schema.upgrade(url)
    path = sqlite_path(parse_database_url(url))
    assert path is not None
    with FileLock(path):
        with pytest.raises(ConfigurationError, match=rf"pid {os.getpid()} on .*Stop it first"):
            await upgrade_as(LaterVersion(tmp_path / "less", [Step(), CONTRACT]), url)
        assert await upgrade_as(LaterVersion(tmp_path / "more"), url) == (schema.HEAD, "9001")


async def test_a_server_that_starts_during_an_upgrade_of_an_embedded_database_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await schema.upgrade(url)
    LaterVersion(tmp_path).take_over(monkeypatch)
    is_begun, is_seen = threading.Event(), threading.Event()
    look = schema.after_writers

    def look_and_tell(*given: Any) -> Any:
        is_seen.set()
        return look(*given)

    def upgrade_slowly(connection: Connection) -> None:
        schema.migrate(connection, schema.HEAD)
        is_begun.set()
        assert is_seen.wait(30)

    monkeypatch.setattr(schema, "after_writers", look_and_tell)
    upgrading = asyncio.create_task(change(url, upgrade_slowly))
    assert await asyncio.to_thread(is_begun.wait, 30)
    await schema.prepare(url)
    await upgrading
    assert is_seen.is_set()


# --- PostgreSQL: waiting for each other ---


async def waiting_locks(connection: AsyncConnection) -> int:
    """How many are waiting for a lock on this database."""
    found = await connection.execute(
        text(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database"
            " WHERE NOT granted AND datname = current_database()"
        )
    )
    return int(found.scalar_one())


async def test_a_server_that_starts_during_an_upgrade_waits_for_its_end(postgres_url: str):
    engine = create_async_engine(parse_database_url(postgres_url))
    try:
        async with engine.begin() as upgrading:
            await upgrading.execute(select(func.pg_advisory_xact_lock(LOCK)))
            start = asyncio.create_task(schema.prepare(postgres_url))
            await eventually(lambda: waiting_locks(upgrading), what="the server's start to wait")
            assert not start.done()
            await upgrading.run_sync(lambda connection: schema.migrate(connection, schema.HEAD))
        await asyncio.wait_for(start, 30)
    finally:
        await engine.dispose()


async def test_an_upgrade_gives_way_to_a_long_transaction_and_tries_again(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, before = await schema.upgrade(postgres_url)
    LaterVersion(tmp_path).take_over(monkeypatch)
    engine = create_async_engine(parse_database_url(postgres_url))
    reading = await engine.connect()
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await reading.rollback()

    try:
        await reading.execute(text("SELECT count(*) FROM inbox"))
        assert await schema.upgrade(postgres_url, sleep=pause) == (before, "9001")
        assert len(pauses) == 1
    finally:
        await reading.close()
        await engine.dispose()


async def test_an_upgrade_that_never_gets_its_table_says_so(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    await schema.upgrade(postgres_url)
    LaterVersion(tmp_path).take_over(monkeypatch)
    monkeypatch.setattr(schema, "_TABLE_LOCK_TRIES", 2)
    engine = create_async_engine(parse_database_url(postgres_url))

    async def pause(seconds: float) -> None:
        pass

    try:
        async with engine.connect() as reading:
            await reading.execute(text("SELECT count(*) FROM inbox"))
            with pytest.raises(ConfigurationError, match="long transaction; nothing was changed") as caught:
                await schema.upgrade(postgres_url, sleep=pause)
            assert caught.value.code == "schema_locked"
    finally:
        await engine.dispose()
    columns: set[str] = set()
    await change(
        postgres_url, lambda c: columns.update(one["name"] for one in inspect(c).get_columns("inbox"))
    )
    assert "mood" not in columns
