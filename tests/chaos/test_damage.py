"""A database file that is broken, or that can't be written: the program says so, and leaves it as it is.

Source: the faults to survive, F8 and F9.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import urllib.request
from contextlib import closing
from pathlib import Path

import orjson

from tests.huoji_process import HuojiProcess
from tests.installation import environment, install
from tests.marketplace import Marketplace, message_body


def spoil(file: Path, table: str) -> None:
    """Overwrite the first page of a table and of each of its indexes, as a dying disk does."""
    with closing(sqlite3.connect(file)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        roots = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE tbl_name = ?", (table,)
        ).fetchall()
        # What is in the log hides what is in the file.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with file.open("r+b") as pages:
        for (root,) in roots:
            pages.seek((root - 1) * size)
            pages.write(b"\xa5" * size)


async def post(market: Marketplace, huoji: HuojiProcess, name: str) -> tuple[int, str | None]:
    """Post a message; return the status and the problem's code."""
    body = message_body("什么时候发货", message_id=name, conversation_id=name)
    exchange = await market.exchange(huoji.url, body)
    assert exchange is not None
    status, headers, answer = exchange
    if status == 200:
        return status, None
    assert "retry-after" in {header.lower() for header in headers}
    return status, orjson.loads(answer)["code"]


def size_of_log(file: Path) -> int:
    return file.with_name(f"{file.name}-wal").stat().st_size


def figure(huoji: HuojiProcess, name: str) -> float:
    """A figure of the program's metrics."""
    request = urllib.request.Request(f"{huoji.url}/metrics", headers={"Authorization": "Bearer m"})
    with urllib.request.urlopen(request, timeout=10) as page:
        found = re.search(rf"^{name} (\S+)$", page.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def test_a_page_that_breaks_ends_all_writing_and_the_next_start_refuses(
    tmp_path: Path, market: Marketplace
) -> None:
    file = tmp_path / "huoji.db"
    url = f"sqlite:///{file}"
    await install(url, tmp_path, market)
    with HuojiProcess(tmp_path, environment=environment(url, HUOJI_METRICS_TOKEN="m")) as huoji:
        spoil(file, "inbox")
        refused = [await post(market, huoji, f"m-{n}") for n in range(3)]
        assert refused == [(503, "database_damaged")] * 3
        assert figure(huoji, "huoji_sqlite_wal_bytes") == size_of_log(file)
        assert huoji.get_status("/readyz") == 503
        assert huoji.get_status("/healthz") == 200
        assert huoji.log.count('"storage.damaged"') == 1
        # Reading goes on: the page of those who sign in knows them, or doesn't.
        assert huoji.get_status("/api/v1/shops") == 401
        assert await asyncio.to_thread(huoji.terminate) == 0
        as_left = file.read_bytes()
        await asyncio.to_thread(huoji.start, wait=False)
        assert await asyncio.to_thread(huoji.wait_exit) == 1
    said = [line for line in huoji.log.splitlines() if line.startswith("huoji: ")]
    assert len(said) == 1
    for part in (
        f"the database {file} is damaged",
        "Nothing was changed",
        "huoji.db-wal",
        "backup",
        ".recover",
    ):
        assert part in said[0]
    assert "Traceback" not in huoji.log
    assert file.read_bytes() == as_left


async def test_a_place_that_cannot_be_a_database_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "huoji.db").mkdir()
    huoji = HuojiProcess(tmp_path)
    try:
        huoji.start(wait=False)
        assert await asyncio.to_thread(huoji.wait_exit) == 1
    finally:
        huoji.kill()
    assert f"{tmp_path / 'huoji.db'} is a folder" in huoji.log
    assert "HUOJI_DATABASE_URL" in huoji.log
    assert "Traceback" not in huoji.log
