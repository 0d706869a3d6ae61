"""A small shop with people in it, on a real database, for everything that concerns the desk."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.desk_world import DeskWorld
from tests.fakes import FakeClock, FakeIds


@pytest.fixture
async def world(database_url: str, clock: FakeClock, ids: FakeIds) -> AsyncIterator[DeskWorld]:
    """An open desk on SQLite and on PostgreSQL; routing and pushing run only when a test asks for it."""
    made = await DeskWorld.open(database_url, clock=clock, ids=ids)
    yield made
    await made.close()


@pytest.fixture
async def lite(
    tmp_path_factory: pytest.TempPathFactory, clock: FakeClock, ids: FakeIds
) -> AsyncIterator[DeskWorld]:
    """The same on SQLite alone, for rules that no database can change."""
    made = await DeskWorld.open(
        f"sqlite:///{tmp_path_factory.mktemp('desk') / 'huoji.db'}", clock=clock, ids=ids
    )
    yield made
    await made.close()
