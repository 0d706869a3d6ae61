"""The console's event log on PostgreSQL: a cursor never skips an event that commits late, whoever writes beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.errors import ConflictError
from app.core.metrics import Metrics
from app.desk.events import append_events, notice_event
from app.storage.database import Database
from app.storage.engines import make_async_engine
from app.storage.tables import console_events, groups
from app.storage.urls import parse_database_url
from tests.desk_world import create_tables
from tests.waiting import eventually

pytestmark = pytest.mark.postgres


def told(words: str) -> dict[str, Any]:
    return notice_event(code="t", text=words, now_ms=0)


@pytest.fixture
async def two(postgres_url: str) -> AsyncIterator[tuple[Database, Database]]:
    """Two processes' view of one database."""
    databases = Database(postgres_url, metrics=Metrics()), Database(postgres_url, metrics=Metrics())
    for one in databases:
        await one.open()
    await databases[0].write(create_tables)
    yield databases
    for one in databases:
        await one.close()


@pytest.fixture
async def engine(postgres_url: str, two: object) -> AsyncIterator[AsyncEngine]:
    made = make_async_engine(parse_database_url(postgres_url), pool_size=4)
    yield made
    await made.dispose()


async def read_after(engine: AsyncEngine, cursor: int) -> list[int]:
    async with engine.connect() as connection:
        query = (
            select(console_events.c.seq).where(console_events.c.seq > cursor).order_by(console_events.c.seq)
        )
        return list((await connection.execute(query)).scalars())


async def plainly(connection: AsyncConnection, words: str) -> None:
    await connection.execute(insert(console_events), [told(words)])


async def in_order(connection: AsyncConnection, words: str) -> None:
    await connection.run_sync(lambda plain: append_events(plain, [told(words)]))


async def test_without_the_lock_a_reader_would_skip_the_event_that_commits_late(engine: AsyncEngine) -> None:
    async with engine.connect() as early, engine.connect() as late:
        await plainly(late, "a lower number, committed later")
        await plainly(early, "a higher number, committed first")
        await early.commit()
        cursor = (await read_after(engine, 0))[-1]
        await late.commit()

    assert await read_after(engine, cursor) == []
    assert len(await read_after(engine, 0)) == 2


async def test_who_comes_second_waits_for_the_first_to_commit_so_that_nothing_is_skipped(
    engine: AsyncEngine,
) -> None:
    async with engine.connect() as first, engine.connect() as second:
        await in_order(first, "1")
        writing = asyncio.create_task(in_order(second, "2"))
        await eventually(lambda: _waits_for_the_lock(engine), what="the second to wait")
        assert await read_after(engine, 0) == []
        await first.commit()
        await writing
        seen = await read_after(engine, 0)
        await second.commit()

    later = await read_after(engine, seen[-1])
    assert (len(seen), len(later)) == (1, 1)


async def test_a_reader_behind_two_busy_writers_sees_every_event_once_and_in_order(
    two: tuple[Database, Database], engine: AsyncEngine
) -> None:
    each = 60
    done = asyncio.Event()

    async def write(database: Database, name: str) -> None:
        await asyncio.gather(
            *(
                database.write(lambda connection, n=n: append_events(connection, [told(f"{name}{n}")] * 3))
                for n in range(each)
            )
        )

    async def follow() -> list[int]:
        seen: list[int] = []
        while True:
            is_last = done.is_set()
            seen += await read_after(engine, seen[-1] if seen else 0)
            if is_last:
                return seen

    following = asyncio.create_task(follow())
    for _ in range(3):
        await asyncio.gather(write(two[0], "a"), write(two[1], "b"))
    done.set()

    assert await following == await read_after(engine, 0)
    assert len(await read_after(engine, 0)) == 3 * 2 * each * 3


async def test_two_processes_that_write_events_and_the_same_rows_never_wait_for_each_other(
    two: tuple[Database, Database],
) -> None:
    first, second = two

    def lock_row(connection: Connection) -> None:
        connection.execute(select(groups).where(groups.c.id == "vip").with_for_update())

    def lock_row_and_tell(connection: Connection) -> None:
        lock_row(connection)
        connection.execute(text("SELECT pg_sleep(0.5)"))
        append_events(connection, [told("second")])

    slow = asyncio.create_task(second.write(lock_row_and_tell))
    await eventually(lambda: _row_is_locked(first))
    # One batch: an event first, then a row that the other process holds while it wants to store an event.
    await asyncio.gather(
        first.write(lambda connection: append_events(connection, [told("first")])), first.write(lock_row)
    )
    await slow

    assert _failures(first) == _failures(second) == 0


async def test_a_deadlock_between_processes_is_run_again_and_nobody_hears_of_it(
    two: tuple[Database, Database],
) -> None:
    def take(*names: str) -> Any:
        def run(connection: Connection) -> str:
            for name in names:
                connection.execute(select(groups).where(groups.c.id == name).with_for_update())
                connection.execute(text("SELECT pg_sleep(0.3)"))
            return names[0]

        return run

    done = await asyncio.gather(two[0].write(take("vip", "presale")), two[1].write(take("presale", "vip")))

    assert done == ["vip", "presale"]
    assert _failures(two[0]) + _failures(two[1]) >= 1


async def test_a_change_that_is_refused_leaves_no_event(
    two: tuple[Database, Database], engine: AsyncEngine
) -> None:
    def refused(connection: Connection) -> None:
        append_events(connection, [told("never")])
        raise ConflictError("no")

    outcomes = await asyncio.gather(
        two[0].write(refused),
        two[0].write(lambda connection: append_events(connection, [told("yes")])),
        return_exceptions=True,
    )

    assert isinstance(outcomes[0], ConflictError)
    assert len(await read_after(engine, 0)) == 1


async def test_who_writes_no_events_never_asks_for_the_lock(two: tuple[Database, Database]) -> None:
    said: list[str] = []
    engine: Any = two[0]._engine
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: said.append(given[2]))

    await two[0].write(lambda connection: append_events(connection, []))
    await two[0].write(lambda connection: connection.execute(select(groups)).first())

    assert said
    assert [one for one in said if "advisory" in one] == []


async def _waits_for_the_lock(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool((await connection.execute(query)).scalar())


async def _row_is_locked(database: Database) -> bool:
    def look(connection: Connection) -> bool:
        query = select(groups.c.id).where(groups.c.id == "vip").with_for_update(skip_locked=True)
        return connection.execute(query).first() is None

    return await database.read(look)


def _failures(database: Database) -> float:
    metrics: Any = database.writer._metrics
    return metrics.registry.get_sample_value("huoji_batch_failures_total") or 0.0
