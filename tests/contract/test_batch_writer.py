"""The batch writer, on both databases: one commit for many, and one bad row spoils only itself."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from app.core.errors import ConflictError, OverloadedError
from app.core.metrics import Metrics
from app.storage.database import Database, bump_revision, read_revisions
from app.storage.embedded import QUICK_IN_A_ROW, EmbeddedWriter
from app.storage.tables import metadata, shops
from app.storage.urls import parse_database_url
from app.storage.writer import BatchWriter
from tests.waiting import pause


def shop(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "settings": "{}", "created_at_ms": 1, "updated_at_ms": 1}


class InsertShops:
    rank = 10

    def __init__(self) -> None:
        self.batches: list[int] = []

    def apply(self, connection: Connection, items: Sequence[dict[str, Any]]) -> Sequence[str | Exception]:
        self.batches.append(len(items))
        connection.execute(insert(shops), list(items))
        return [item["id"] for item in items]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url, metrics=Metrics())
    await opened.open()
    await opened.write(metadata.create_all)
    yield opened
    await opened.close()


async def stored(database: Database) -> list[str]:
    return sorted(
        await database.read(lambda connection: list(connection.execute(select(shops.c.id)).scalars()))
    )


async def test_what_queues_during_a_commit_becomes_one_transaction(database: Database) -> None:
    operation = InsertShops()
    names = [f"s{number:03}" for number in range(100)]
    results = await asyncio.gather(*(database.writer.submit(operation, shop(name)) for name in names))
    assert results == names
    assert await stored(database) == names
    assert len(operation.batches) <= 2


async def test_one_bad_row_fails_alone(database: Database) -> None:
    operation = InsertShops()
    names = ["a", "b", "a", "c"]
    results = await asyncio.gather(
        *(database.writer.submit(operation, shop(name)) for name in names), return_exceptions=True
    )
    assert [isinstance(result, Exception) for result in results] == [False, False, True, False]
    assert await stored(database) == ["a", "b", "c"]


async def test_a_call_that_raises_undoes_its_own_writes_only(database: Database) -> None:
    def fails(connection: Connection) -> None:
        connection.execute(insert(shops), shop("undone"))
        raise ConflictError("no")

    def works(connection: Connection) -> str:
        connection.execute(insert(shops), shop("kept"))
        return "done"

    failed, done = await asyncio.gather(database.write(fails), database.write(works), return_exceptions=True)
    assert isinstance(failed, ConflictError)
    assert done == "done"
    assert await stored(database) == ["kept"]


async def test_a_bug_in_a_call_reaches_its_caller_and_nobody_else(database: Database) -> None:
    def buggy(_connection: Connection) -> None:
        raise ZeroDivisionError

    operation = InsertShops()
    failed, done = await asyncio.gather(
        database.write(buggy), database.writer.submit(operation, shop("x")), return_exceptions=True
    )
    assert isinstance(failed, ZeroDivisionError)
    assert done == "x"


async def test_a_full_queue_refuses_and_takes_nothing(database: Database) -> None:
    blocked = asyncio.Event()

    async def run(function: Any) -> Any:
        await blocked.wait()
        raise AssertionError("never committed")

    writer = BatchWriter(run, metrics=Metrics(), max_rows=2, max_bytes=100)
    operation = InsertShops()
    writer.offer(operation, shop("a"), 40)
    writer.offer(operation, shop("b"), 40)
    with pytest.raises(OverloadedError) as refused:
        writer.offer(operation, shop("c"), 1)
    assert refused.value.retry_after == 1
    assert writer.waiting == 2
    small = BatchWriter(run, metrics=Metrics(), max_rows=100, max_bytes=100)
    small.offer(operation, shop("a"), 90)
    with pytest.raises(OverloadedError):
        small.offer(operation, shop("b"), 11)


async def test_closing_commits_what_was_queued(database_url: str) -> None:
    first = Database(database_url, metrics=Metrics())
    await first.open()
    await first.write(metadata.create_all)
    futures = [first.writer.submit(InsertShops(), shop(f"s{number}")) for number in range(5)]
    await first.close()
    assert all(future.done() for future in futures)
    second = Database(database_url, metrics=Metrics())
    await second.open()
    assert await stored(second) == [f"s{number}" for number in range(5)]
    await second.close()


async def test_a_revision_rises_with_each_bump(database: Database) -> None:
    for _ in range(3):
        await database.write(lambda connection: bump_revision(connection, "shops"))
    await database.write(lambda connection: bump_revision(connection, "accounts"))
    assert await database.read(read_revisions) == {"shops": 3, "accounts": 1}


async def test_a_writer_that_is_cancelled_during_a_commit_ends_and_leaves_the_database_usable(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    first = Database(url, metrics=Metrics())
    await first.open()
    await first.write(metadata.create_all)
    waiting = [asyncio.ensure_future(first.writer.submit(InsertShops(), shop(f"s{n}"))) for n in range(50)]
    # One turn of the loop: the batch is written, its commit is under way in the thread.
    await pause(0)
    task = next(task for task in asyncio.all_tasks() if task.get_name() == "batch-writer")
    await pause(0)
    task.cancel()
    _, pending = await asyncio.wait((task,), timeout=5)
    assert not pending
    for future in waiting:
        future.cancel()
    second = Database(url, metrics=Metrics())
    await second.open()
    assert await stored(second) in ([], sorted(f"s{n}" for n in range(50)))
    await second.close()
    # Its task is over; what is left to close are the thread and the connections.
    first.writer._task = None
    await first.close()


async def test_a_job_that_may_linger_shares_the_next_commit(database: Database) -> None:
    operation = InsertShops()

    first = database.writer.submit(operation, shop("s1"), lingers=True)
    second = database.writer.submit(operation, shop("s2"))

    assert await asyncio.gather(first, second) == ["s1", "s2"]
    assert operation.batches == [2]


async def test_a_job_that_may_linger_is_committed_though_nothing_else_comes(database: Database) -> None:
    operation = InsertShops()

    assert await database.writer.submit(operation, shop("s1"), lingers=True) == "s1"

    assert await stored(database) == ["s1"]


async def test_what_lingers_is_committed_before_the_writer_ends(database: Database) -> None:
    waiting = database.writer.submit(InsertShops(), shop("s1"), lingers=True)

    await database.writer.stop()

    assert await waiting == "s1"


async def test_commits_leave_the_event_loop_as_soon_as_the_disk_is_slow(tmp_path: Path) -> None:
    at = 0.0
    step = 0.0
    timed_in: list[int] = []

    def monotonic() -> float:
        nonlocal at
        at += step
        timed_in.append(threading.get_ident())
        return at

    writer = EmbeddedWriter(parse_database_url(f"sqlite:///{tmp_path}/huoji.db"), monotonic=monotonic)

    async def commit() -> bool:
        await writer.run(lambda connection: connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (a)"))
        return timed_in[-1] == threading.get_ident()

    on_loop = [await commit() for _ in range(QUICK_IN_A_ROW + 1)]
    step = 1.0
    assert await commit()
    step = 0.0
    on_loop_after = await commit()
    writer.close()

    assert on_loop == [False] * QUICK_IN_A_ROW + [True]
    assert not on_loop_after
