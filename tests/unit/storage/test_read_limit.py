"""Whoever reads for too long is interrupted, so that the log of an embedded database can begin anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from app.storage.engines import make_async_engine

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT v FROM t UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


async def test_a_read_without_end_is_cut_and_holds_the_log_no_longer(tmp_path: Path) -> None:
    url = make_url(f"sqlite+aiosqlite:///{tmp_path / 'huoji.db'}")
    engine = make_async_engine(url, pool_size=1, read_seconds=0.2)
    other = make_async_engine(url, pool_size=1)
    try:
        async with other.begin() as writer:
            await writer.exec_driver_sql("CREATE TABLE t AS SELECT 1 AS v")
        async with engine.connect() as reader:
            reading = asyncio.ensure_future(reader.exec_driver_sql(ENDLESS))
            with pytest.raises(OperationalError, match="interrupted"):
                await asyncio.wait_for(reading, 30)
            # So is whatever it goes on with.
            with pytest.raises(OperationalError, match="interrupted"):
                await asyncio.wait_for(reader.exec_driver_sql(ENDLESS), 30)
            async with other.begin() as writer:
                await writer.exec_driver_sql("INSERT INTO t VALUES (2)")
            async with other.connect() as writer:
                done = await writer.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                assert done.one() == (0, 0, 0)
        # Who takes the connection next has all the time again.
        async with engine.connect() as reader:
            assert (await reader.exec_driver_sql("SELECT count(*) FROM t")).scalar_one() == 2
    finally:
        await engine.dispose()
        await other.dispose()
