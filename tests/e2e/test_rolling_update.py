"""A rolling update under load: the tables are brought further, two versions work side by side, and back again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.storage import schema
from tests.chaos.load import Load
from tests.huoji_process import HuojiProcess
from tests.installation import environment, install
from tests.marketplace import Marketplace
from tests.migrations import LaterVersion, Step

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]

STEPS = (
    Step(),
    Step("op.add_column('messages', sa.Column('mood', sa.Text(), nullable=False, server_default='good'))"),
    Step("op.add_column('processes', sa.Column('mood', sa.Text(), nullable=True))"),
    Step("op.create_table('moods', sa.Column('id', sa.Text(), primary_key=True))"),
)
TROUBLE = ("storage.commit_failed", "storage.batch_taken_apart", "lane.turn_failed", "cached statement")
"""What stands in the log of a program to which the tables of another version are trouble."""


async def test_two_versions_work_side_by_side_and_the_new_one_can_be_taken_back(
    postgres_url: str, tmp_path: Path
) -> None:
    """F45: nothing is lost, doubled or out of order, and nothing went wrong on the way."""
    later = LaterVersion(tmp_path, STEPS)
    settings = environment(postgres_url)
    async with Marketplace() as market:
        await install(postgres_url, tmp_path, market)
        one = HuojiProcess(tmp_path / "one", environment=settings)
        two = HuojiProcess(tmp_path / "two", environment=settings)
        new = HuojiProcess(tmp_path / "new", environment=settings, program=later.command())
        everybody = (one, two, new)
        try:
            await start(one)
            await start(two)
            urls = [one.url, two.url]
            async with Load(market, urls, 20261122, buyers=8) as load:
                await load.wait_for(30)
                done = await upgrade(later, settings)
                assert done.returncode == 0, done.stderr
                assert (await schema.inspect_database(postgres_url)).state is schema.SchemaState.AHEAD
                await load.wait_for(30)
                assert [process.get_status("/readyz") for process in (one, two)] == [200, 200]

                # One after the other is replaced …
                await start(new)
                urls[:] = [new.url, two.url]
                await stop(one)
                await load.wait_for(60)
                # … and the update is taken back: the old program starts on the new tables.
                await start(one)
                urls[:] = [one.url, two.url]
                await stop(new)
                await load.wait_for(30)
                await load.finish()
                await load.wait_answered()
            await stop(one)
            await stop(two)
        finally:
            for process in everybody:
                process.kill()
        await load.assert_nothing_lost_doubled_or_disordered(postgres_url)
        assert [word for process in everybody for word in TROUBLE if word in process.log] == []


async def start(process: HuojiProcess) -> None:
    await asyncio.to_thread(process.start)


async def stop(process: HuojiProcess) -> None:
    assert await asyncio.to_thread(process.terminate) == 0, process.log[-3000:]


async def upgrade(later: LaterVersion, settings: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run the later version's `huoji db upgrade`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUOJI_")}
    return await asyncio.to_thread(
        subprocess.run,
        later.command("db", "upgrade"),
        env={**inherited, **settings},
        capture_output=True,
        check=False,
    )
