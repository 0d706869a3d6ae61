"""The doctor compares clocks with the database server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.cli.checks.stored import check_clock
from app.core.metrics import Metrics
from app.storage.database import Database
from tests.fakes import FakeClock


@pytest.mark.parametrize(("minutes", "level"), [(0, "ok"), (-0.2, "warning"), (5, "error"), (-5, "error")])
async def test_a_clock_that_differs_from_postgresql_is_found(postgres_url: str, minutes: float, level: str):
    database = Database(postgres_url, metrics=Metrics())
    await database.open()
    try:
        real = await database.read(lambda c: c.exec_driver_sql("SELECT now()").scalar_one())
        clock = FakeClock(real.astimezone(UTC) + timedelta(minutes=minutes))
        finding = await database.read(lambda connection: check_clock(connection, clock))
    finally:
        await database.close()
    assert finding.level == level
    if minutes:
        assert ("behind" if minutes > 0 else "ahead of") in finding.en


async def test_sqlite_has_no_clock_to_compare(tmp_path: object):
    database = Database(f"sqlite:///{tmp_path}/huoji.db", metrics=Metrics())
    await database.open()
    try:
        finding = await database.read(
            lambda connection: check_clock(connection, FakeClock(datetime(2000, 1, 1, tzinfo=UTC)))
        )
    finally:
        await database.close()
    assert finding.level == "skipped"
