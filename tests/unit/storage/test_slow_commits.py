"""A database that takes long, or never answers: nobody outside waits for it, and nothing of ours is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine

from app.core.errors import UnavailableError
from app.core.metrics import Metrics
from app.storage.writer import BatchWriter
from tests.waiting import eventually


class Keep:
    """A bulk operation that keeps what it is given."""

    rank = 1

    def __init__(self) -> None:
        self.kept: list[str] = []

    def apply(self, connection: Connection, items: Sequence[str]) -> Sequence[str | Exception]:
        """Keep the items."""
        self.kept += items
        return list(items)


class Slow:
    """Transactions on an empty database that wait at a gate before their end."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self._engine = create_engine("sqlite://")

    async def run(self, function: Callable[[Connection], Any]) -> Any:
        """Run a transaction."""
        with self._engine.connect() as connection:
            outcome = function(connection)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return outcome

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    """The transactions."""
    slow = Slow()
    yield slow
    slow.close()


@pytest.fixture
async def writer(slow: Slow) -> AsyncIterator[BatchWriter]:
    """A writer whose callers wait for 50 ms."""
    writer = BatchWriter(slow.run, metrics=Metrics(), answer_seconds=0.05)
    writer.start()
    yield writer
    slow.gate.set()
    await writer.stop()


async def test_whoever_posts_from_outside_is_told_to_come_again(slow: Slow, writer: BatchWriter) -> None:
    calls: list[None] = []
    writer.on_unsure = lambda: calls.append(None)
    keep = Keep()
    slow.gate.clear()
    under_way = writer.offer(keep, "under way", 10)
    await eventually(lambda: keep.kept, what="the first commit")
    waiting = writer.offer(keep, "waiting", 10)
    ours = writer.submit(keep, "ours")
    for future in (under_way, waiting):
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(future, 10)
    with pytest.raises(UnavailableError):
        writer.offer(keep, "refused at once", 10)
    assert not ours.done()
    assert (calls, writer.is_unsure) == ([None], True)
    slow.gate.set()
    assert await ours == "ours"
    assert await writer.offer(keep, "as ever", 10) == "as ever"
    # What was under way happened; what waited did not, and what was refused was never there.
    assert keep.kept == ["under way", "ours", "as ever"]
    assert len(calls) == 2


async def test_quick_commits_are_never_late(slow: Slow, writer: BatchWriter) -> None:
    keep = Keep()
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.3
    number = 0
    while loop.time() < until:
        number += 1
        assert await writer.offer(keep, str(number), 1) == str(number)
    assert len(keep.kept) == number
    assert not writer.is_unsure


async def test_after_a_failed_commit_rows_may_turn_up(slow: Slow, writer: BatchWriter) -> None:
    keep = Keep()
    slow.failure = ConnectionResetError("cut")
    with pytest.raises(UnavailableError):
        await writer.submit(keep, "lost?")
    assert writer.is_unsure
