"""The API of a small shop, on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api_world import ApiWorld
from tests.desk_world import DeskWorld
from tests.fakes import FakeClock, FakeIds


@pytest.fixture
async def api(tmp_path: Path, clock: FakeClock, ids: FakeIds) -> AsyncIterator[ApiWorld]:
    """The application with its services."""
    desk = await DeskWorld.open(f"sqlite:///{tmp_path / 'huoji.db'}", clock=clock, ids=ids)
    yield ApiWorld(desk)
    await desk.close()
