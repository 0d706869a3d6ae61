"""What the chaos tests share: a marketplace, a seed, programs that never outlive their test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.huoji_process import HuojiProcess
from tests.installation import environment
from tests.marketplace import Marketplace


@pytest.fixture
def seed() -> int:
    """What steers every draw; HUOJI_CHAOS_SEED chooses another."""
    return int(os.environ.get("HUOJI_CHAOS_SEED", "20261121"))


@pytest.fixture
async def market() -> AsyncIterator[Marketplace]:
    """A marketplace."""
    async with Marketplace() as market:
        yield market


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., HuojiProcess]]:
    """Makes programs on a database, not yet started: `program(url, HUOJI_REDIS_URL=…)`; killed at the test's end."""
    made: list[HuojiProcess] = []

    def make(url: str, **settings: str) -> HuojiProcess:
        process = HuojiProcess(tmp_path / f"huoji-{len(made) + 1}", environment=environment(url, **settings))
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()
