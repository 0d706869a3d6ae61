"""What somebody else changed is in service soon, with a hint at once, and one bad refresh doesn't spoil the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.errors import UnavailableError
from app.core.metrics import Metrics
from app.pipeline.watch import RevisionWatch
from app.storage.database import Database, bump_revision
from tests.desk_world import create_tables
from tests.fakes import FakeClock
from tests.waiting import eventually


class Watched:
    """A watch over two revisions, and what became of them."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.database = database
        self.refreshed: list[str] = []
        self.told = 0
        self.problem: Exception | None = None
        self.watch = RevisionWatch(
            database=database,
            clock=clock,
            refreshes={"knowledge": self._knowledge, "shops": self._shops},
            on_moved=self._tell,
        )

    async def move(self, name: str) -> None:
        """Change something as any process does."""
        await self.database.write(lambda connection: bump_revision(connection, name))

    async def _knowledge(self) -> None:
        if self.problem is not None:
            raise self.problem
        self.refreshed.append("knowledge")

    async def _shops(self) -> None:
        self.refreshed.append("shops")

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture
async def watched(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Watched]:
    database = Database(f"sqlite:///{tmp_path / 'huoji.db'}", metrics=Metrics())
    await database.open()
    await database.write(create_tables)
    made = Watched(database, clock)
    await made.watch.note()
    made.watch.start()
    yield made
    await made.watch.stop()
    await database.close()


async def test_without_a_hint_a_change_is_found_by_the_clock_and_told_to_the_others(
    watched: Watched, clock: FakeClock
) -> None:
    await watched.move("shops")

    await clock.run_until(lambda: watched.refreshed, step=0.2)

    assert (watched.refreshed, watched.told) == (["shops"], 1)


async def test_at_a_hint_it_looks_at_once_and_tells_nobody_again(watched: Watched) -> None:
    await watched.move("knowledge")
    watched.watch.hinted()

    await eventually(lambda: watched.refreshed)

    assert (watched.refreshed, watched.told) == (["knowledge"], 0)


async def test_its_own_process_having_changed_something_it_looks_at_once_and_tells_the_others(
    watched: Watched,
) -> None:
    await watched.move("knowledge")
    watched.watch.look()

    await eventually(lambda: watched.refreshed)

    assert watched.told == 1


@pytest.mark.parametrize("problem", [UnavailableError("away"), RuntimeError("a bug")])
async def test_a_refresh_that_fails_does_not_keep_the_others_from_being_in_service(
    watched: Watched, clock: FakeClock, problem: Exception
) -> None:
    watched.problem = problem
    await watched.move("knowledge")
    await watched.move("shops")
    watched.watch.look()
    await eventually(lambda: watched.refreshed == ["shops"])

    watched.problem = None
    await watched.move("knowledge")

    await clock.run_until(lambda: watched.refreshed == ["shops", "knowledge"], step=0.2)
