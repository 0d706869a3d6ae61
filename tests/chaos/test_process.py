"""Faults of a whole process: told to stop, started twice, out of disk, cut off from its database or marketplace.

Source: the faults to survive, F2, F4, F5, F6, F15, F21 to F23.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.core.metrics import Metrics
from app.storage.database import Database
from app.storage.tables import inbox
from tests.chaos.load import Load
from tests.huoji_process import HuojiProcess
from tests.installation import QUESTIONS, environment, install, on_installation, read_rows
from tests.marketplace import Fault, Marketplace, Reply, failing, message_body, signed_headers
from tests.waiting import eventually

QUESTION = "什么时候发货"
LIMITED_SECONDS = 3


@pytest.fixture
async def market() -> AsyncIterator[Marketplace]:
    """A marketplace."""
    async with Marketplace() as market:
        yield market


@pytest.fixture
async def huoji(tmp_path: Path, market: Marketplace) -> AsyncIterator[HuojiProcess]:
    """A running program on SQLite."""
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, market, accounts={"shop-1": "", "shop-2": ""})
    process = HuojiProcess(tmp_path, environment=environment(url))
    try:
        await asyncio.to_thread(process.start)
        yield process
    finally:
        process.kill()


async def answer(market: Marketplace, process: HuojiProcess, name: str, account: str = "shop-1") -> float:
    """Ask something in a conversation of its own; return the seconds until its answer."""
    began = time.monotonic()
    status = await market.say(
        process.url, QUESTION, message_id=f"m-{name}", conversation_id=name, account=account
    )
    assert status == 200
    await market.wait_for(1, conversation_id=name, timeout=20)
    return time.monotonic() - began


# --- F2: told to stop ---


async def test_told_to_stop_it_refuses_new_work_finishes_and_loses_nothing(
    tmp_path: Path, market: Marketplace, huoji: HuojiProcess
) -> None:
    market.judge = failing(0.05, 0.02, 7)
    async with Load(market, huoji.url, 7) as load:
        for _ in range(3):
            await load.wait_for(60)
            began = time.monotonic()
            assert await asyncio.to_thread(huoji.terminate) == 0, huoji.log[-3000:]
            assert time.monotonic() - began < 12
            await asyncio.to_thread(huoji.start)
        await load.finish()
        await load.wait_answered()
    assert await asyncio.to_thread(huoji.terminate) == 0
    await load.assert_nothing_lost_doubled_or_disordered(huoji.environment["HUOJI_DATABASE_URL"])
    assert '"level":"error"' not in huoji.log


async def test_a_request_that_is_under_way_when_the_end_comes_is_told_to_come_again(
    huoji: HuojiProcess, market: Marketplace
) -> None:
    body = message_body(QUESTION, message_id="m-1", conversation_id="c-1")
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", huoji.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", huoji.port)
    idle_writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200" in await idle_reader.readline()
    lines = [f"{name}: {value}" for name, value in signed_headers(body, "wh-1").items()]
    head = ["POST /webhooks/generic/shop-1 HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body[:10])
    await writer.drain()
    await answer(market, huoji, "before")
    os.kill(huoji.pid, 15)
    await eventually(lambda: huoji.get_status("/readyz") != 200, what="the port to close")
    writer.write(body[10:])
    await writer.drain()
    status = (await reader.readline()).split(b" ")[1]
    writer.close()
    idle_writer.close()
    assert await asyncio.to_thread(huoji.wait_exit) == 0
    stored = {
        row["dedupe_key"]: row["state"]
        for row in await read_rows(huoji.environment["HUOJI_DATABASE_URL"], inbox)
    }
    # Begun before the end it may still be taken; what matters is that the ack tells the truth.
    assert (status == b"200") == ("m:m-1" in stored)
    assert status in (b"200", b"503")


async def test_a_hanging_marketplace_cannot_hold_up_the_end(huoji: HuojiProcess, market: Marketplace) -> None:
    never = asyncio.Event()
    market.judge = lambda reply: Fault(until=never)
    assert await market.say(huoji.url, QUESTION, message_id="m-1", conversation_id="c-1") == 200
    await eventually(lambda: market.replies, what="a reply under way")
    began = time.monotonic()
    assert await asyncio.to_thread(huoji.terminate) == 0
    assert time.monotonic() - began < 12
    never.set()
    market.judge = lambda reply: None
    await asyncio.to_thread(huoji.start)
    (reply,) = await market.wait_for(1)
    assert {one.key for one in market.replies} == {reply.key}


# --- F4, F5, F6: the file ---


async def test_a_second_program_on_the_same_file_is_refused_and_told_who_has_it(huoji: HuojiProcess) -> None:
    second = HuojiProcess(huoji.folder / "second", environment=huoji.environment)
    await asyncio.to_thread(second.start, wait=False)
    status = await asyncio.to_thread(second.wait_exit, timeout=30)
    assert status == 1
    assert f"pid {huoji.pid}" in second.log
    assert os.uname().nodename in second.log
    assert "Traceback" not in second.log
    assert huoji.get_status("/readyz") == 200


async def test_an_ack_stands_for_a_commit_that_is_on_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'f.db'}", metrics=Metrics())
    await database.open()
    try:

        def pragmas(connection: Any) -> tuple[Any, Any]:
            return (
                connection.execute(text("PRAGMA synchronous")).scalar(),
                connection.execute(text("PRAGMA journal_mode")).scalar(),
            )

        # 2 is FULL: the log is synced at each commit.
        assert await database.write(pragmas) == (2, "wal")
        await database.write(
            lambda connection: connection.execute(text("CREATE TABLE t (n INTEGER)")).rowcount
        )
        visible: list[int] = []
        for n in range(20):
            await database.write(
                lambda connection, n=n: connection.execute(text(f"INSERT INTO t VALUES ({n})")).rowcount
            )
            # Another connection sees only what is committed.
            visible.append(
                await database.read(
                    lambda connection: connection.execute(text("SELECT count(*) FROM t")).scalar_one()
                )
            )
        assert visible == list(range(1, 21))
    finally:
        await database.close()


async def test_a_full_disk_refuses_webhooks_and_heals_by_itself(
    huoji: HuojiProcess, market: Marketplace
) -> None:
    await answer(market, huoji, "before")
    log = huoji.folder / "huoji.db-wal"
    limits = resource.prlimit(huoji.pid, resource.RLIMIT_FSIZE)
    # No file may grow beyond what the database's log has now: that is what a full disk looks like from in here.
    resource.prlimit(huoji.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, limits[1]))
    refused = []
    for n in range(5):
        body = message_body(QUESTION, message_id=f"full-{n}", conversation_id=f"full-{n}")
        exchange = await market.exchange(huoji.url, body)
        assert exchange is not None
        refused.append(exchange)
    assert {status for status, _, _ in refused} == {503}
    assert all("retry-after" in {name.lower() for name in headers} for _, headers, _ in refused)
    assert huoji.running
    assert huoji.get_status("/healthz") == 200
    resource.prlimit(huoji.pid, resource.RLIMIT_FSIZE, limits)
    await answer(market, huoji, "after")
    await answer(market, huoji, "full-0")
    stored = {row["dedupe_key"] for row in await read_rows(huoji.environment["HUOJI_DATABASE_URL"], inbox)}
    assert stored == {"m:m-before", "m:m-after", "m:m-full-0"}


# --- F15: the database cuts the line ---


@pytest.mark.timeout(180)
async def test_a_commit_whose_outcome_nobody_knows_is_repeated_and_absorbed(
    tmp_path: Path, market: Marketplace, postgres_url: str
) -> None:
    await install(postgres_url, tmp_path, market)
    process = HuojiProcess(tmp_path, environment=environment(postgres_url))
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'huoji' AND pid <> pg_backend_pid()"
    )
    try:
        await asyncio.to_thread(process.start)
        async with Load(market, process.url, 15, buyers=8) as load:

            async def cut_again_and_again(installation: Any) -> None:
                for _ in range(10):
                    await load.wait_for(30)
                    await installation.database.read(lambda connection: connection.execute(cut).all())

            await on_installation(postgres_url, cut_again_and_again)
            await load.finish()
            await load.wait_answered()
        assert await asyncio.to_thread(process.terminate) == 0
    finally:
        process.kill()
    await load.assert_nothing_lost_doubled_or_disordered(postgres_url)


# --- F21, F22, F23: the marketplace ---


async def test_a_marketplace_that_is_down_gets_everything_later_in_order_and_under_stable_keys(
    huoji: HuojiProcess, market: Marketplace
) -> None:
    down = True
    market.judge = lambda reply: Fault(502) if down and reply.account == "shop-1" else None
    for n, question in enumerate(QUESTIONS):
        for name in ("c-1", "c-2", "c-3"):
            await market.say(huoji.url, question, message_id=f"{name}-{n}", conversation_id=name)
    await eventually(lambda: len(market.replies) >= 5, what="some tries")
    # Another account is served meanwhile.
    assert await answer(market, huoji, "elsewhere", "shop-2") < 5
    down = False
    for name in ("c-1", "c-2", "c-3"):
        replies = await market.wait_for(len(QUESTIONS), conversation_id=name, timeout=40)
        assert [reply.answers for reply in replies] == [(f"{name}-{n}",) for n in range(len(QUESTIONS))]
    assert all(len(keys) == 1 for keys in market.keys_by_answered().values())


async def test_a_reply_that_was_taken_before_the_line_was_cut_comes_again_under_its_key(
    huoji: HuojiProcess, market: Marketplace
) -> None:
    cut: set[str] = set()

    def judge(reply: Reply) -> Fault | None:
        if reply.key in cut:
            return None
        cut.add(reply.key)
        return Fault(accepts=True, cuts=True)

    market.judge = judge
    await market.say(huoji.url, QUESTION, message_id="m-1", conversation_id="c-1")
    await eventually(lambda: len(market.replies) == 2, what="the second try")
    first, second = market.replies
    assert (first.key, first.body) == (second.key, second.body)


async def test_a_marketplace_that_asks_for_patience_gets_it_and_others_are_served(
    huoji: HuojiProcess, market: Marketplace
) -> None:
    limited = {"shop-1"}

    def judge(reply: Reply) -> Fault | None:
        if reply.account not in limited:
            return None
        limited.discard(reply.account)
        return Fault(429, headers={"Retry-After": str(LIMITED_SECONDS)})

    market.judge = judge
    await market.say(huoji.url, QUESTION, message_id="m-1", conversation_id="c-1")
    await eventually(lambda: market.replies, what="the first try")
    await market.say(huoji.url, QUESTION, message_id="m-2", conversation_id="c-2")
    assert await answer(market, huoji, "elsewhere", "shop-2") < LIMITED_SECONDS
    await market.wait_for(3, timeout=20)
    first, *later = [reply for reply in market.replies if reply.account == "shop-1"]
    assert len(later) == 2
    assert min(reply.at for reply in later) - first.at >= LIMITED_SECONDS
