"""The disk that the log goes to is full: what is said about the work is lost, the work isn't.

Source: the faults to survive, F7.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.huoji_process import HuojiProcess
from tests.installation import environment, install
from tests.marketplace import Marketplace

METRICS_TOKEN = "for the test of full disks"


TO_A_FULL_DISK = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh", sys.executable, "-m", "app.cli")


@pytest.fixture
async def huoji(tmp_path: Path, market: Marketplace) -> AsyncIterator[HuojiProcess]:
    """The program, not yet started, with nowhere to write a line."""
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, market)
    settings = environment(url, HUOJI_METRICS_TOKEN=METRICS_TOKEN, HUOJI_LOG_LEVEL="DEBUG")
    # Its output buffered as it is by default, not as the other tests have it.
    process = HuojiProcess(tmp_path, environment={**settings, "PYTHONUNBUFFERED": ""}, program=TO_A_FULL_DISK)
    yield process
    process.kill()


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="the system has no /dev/full")
async def test_a_full_disk_under_the_log_costs_lines_and_nothing_else(
    market: Marketplace, huoji: HuojiProcess
) -> None:
    await asyncio.to_thread(huoji.start)
    async with httpx.AsyncClient(base_url=huoji.url) as client:
        before = await dropped(client)
        for number in range(1, 6):
            status = await market.say(
                huoji.url, "什么时候发货", message_id=f"m-{number}", conversation_id="c-1"
            )
            assert status == 200
            replies = await market.wait_for(number)
            assert "48 小时内" in replies[-1].text
        # Four lines a message, besides those of the start.
        assert await dropped(client) >= before + 5
        assert before > 0
        assert (await client.get("/readyz")).status_code == 200
    assert await asyncio.to_thread(huoji.terminate) == 0


async def dropped(client: httpx.AsyncClient) -> float:
    """How many lines the program has dropped."""
    page = await client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    (line,) = [line for line in page.text.splitlines() if line.startswith("huoji_logs_dropped_total ")]
    return float(line.split()[1])
