"""The program killed at every named point of its code, under load; then started again, and everything counted.

Source: the test methods of the reliability notes, number 4; the faults to survive, F1 and F46.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.crashpoints import POINTS
from app.storage import schema
from tests.chaos.load import Load
from tests.conftest import LONG_RUN
from tests.huoji_process import HuojiProcess
from tests.installation import environment, install
from tests.marketplace import Marketplace, failing
from tests.waiting import eventually

COMMITS = [name for name in POINTS if name.endswith("_commit")]
"""Points that every message passes."""

SHARE = {"sqlite": COMMITS[0::2], "postgresql": COMMITS[1::2]}
"""Which of them are died at on which database; in the long run all on both, several times."""

SHARING = ["after_claim", "before_release"]
STOPPING = ["while_stopping", "after_drain"]
KILLED = -9

Program = Callable[..., HuojiProcess]


def to_die(point: str, passes: int) -> dict[str, str]:
    """The environment of a program that dies at a point, the nth time it comes there."""
    return {"HUOJI_CHAOS": "1", "HUOJI_CHAOS_CRASH_AT": f"{point}:{passes}"}


async def dies(process: HuojiProcess) -> None:
    """Wait until a program has died of itself."""
    await eventually(lambda: not process.running, timeout=60, what="the program to die")
    assert await asyncio.to_thread(process.wait_exit) == KILLED, process.log[-3000:]


def test_every_point_is_in_one_of_the_tests_below() -> None:
    assert {*COMMITS, *SHARING, *STOPPING, "during_migration"} == set(POINTS)


@pytest.mark.timeout(300)
async def test_killed_at_each_commit_in_turn_it_loses_doubles_and_disorders_nothing(
    tmp_path: Path, market: Marketplace, program: Program, database_url: str, seed: int
) -> None:
    await install(database_url, tmp_path, market)
    market.judge = failing(0.05, 0.02, seed)
    rng = random.Random(seed)
    huoji = program(database_url)
    usual = dict(huoji.environment)
    async with Load(market, huoji.url, seed, buyers=8) as load:
        for point in COMMITS * 3 if LONG_RUN else SHARE[database_url.partition(":")[0]]:
            huoji.environment = {**usual, **to_die(point, rng.choice([0, 3, 6, 13, 20]))}
            # It may die before it ever is ready: what was left open is worked off at once.
            await asyncio.to_thread(huoji.start, wait=False)
            await dies(huoji)
        huoji.environment = usual
        await asyncio.to_thread(huoji.start)
        await load.wait_for(20)
        await load.finish()
        await load.wait_answered()
    assert await asyncio.to_thread(huoji.terminate) == 0, huoji.log[-3000:]
    await load.assert_nothing_lost_doubled_or_disordered(database_url)


@pytest.mark.timeout(180)
async def test_killed_while_it_stops_it_loses_doubles_and_disorders_nothing(
    tmp_path: Path, market: Marketplace, program: Program, seed: int
) -> None:
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, market)
    huoji = program(url)
    usual = dict(huoji.environment)
    async with Load(market, huoji.url, seed, buyers=8) as load:
        for point in STOPPING:
            huoji.environment = {**usual, **to_die(point, 0)}
            await asyncio.to_thread(huoji.start)
            await load.wait_for(40)
            assert await asyncio.to_thread(huoji.terminate) == KILLED
        huoji.environment = usual
        await asyncio.to_thread(huoji.start)
        await load.finish()
        await load.wait_answered()
    assert await asyncio.to_thread(huoji.terminate) == 0
    await load.assert_nothing_lost_doubled_or_disordered(url)


@pytest.mark.timeout(180)
async def test_killed_while_partitions_change_hands_nothing_is_lost_doubled_or_disordered(
    tmp_path: Path, market: Marketplace, program: Program, postgres_url: str, seed: int
) -> None:
    await install(postgres_url, tmp_path, market)
    first, second = program(postgres_url), program(postgres_url)
    usual = dict(second.environment)
    # The first dies when it has drained what the second is to get; then the second, when it has taken everything.
    first.environment = {**first.environment, **to_die("before_release", 0)}
    await asyncio.to_thread(first.start)
    async with Load(market, [first.url, second.url], seed, buyers=8) as load:
        await load.wait_for(40)
        second.environment = {**usual, **to_die("after_claim", 0)}
        await asyncio.to_thread(second.start, wait=False)
        await dies(first)
        await dies(second)
        second.environment = usual
        await asyncio.to_thread(second.start)
        await load.wait_for(40, timeout=60)
        await load.finish()
        await load.wait_answered()
    assert await asyncio.to_thread(second.terminate) == 0, second.log[-3000:]
    await load.assert_nothing_lost_doubled_or_disordered(postgres_url)


@pytest.mark.parametrize("passes", [0, 1])
async def test_a_migration_killed_half_way_leaves_no_trace_and_runs_again(
    database_url: str, passes: int
) -> None:
    # F46
    command = [sys.executable, "-m", "app.cli", "db", "upgrade"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HUOJI_")}
    usual = {**inherited, **environment(database_url)}
    dead = await asyncio.to_thread(
        subprocess.run,
        command,
        env={**usual, **to_die("during_migration", passes)},
        capture_output=True,
        check=False,
    )
    assert dead.returncode == KILLED, dead.stderr
    report = await schema.inspect_database(database_url)
    assert (report.state, report.revision) == (schema.SchemaState.ABSENT, None)
    done = await asyncio.to_thread(subprocess.run, command, env=usual, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (await schema.inspect_database(database_url)).state is schema.SchemaState.CURRENT
