"""More than the program can take: it says so at once, its memory stays where it was, and what it acked is there.

Source: the promises, P7; the faults to survive, F10, F12, F21, F43 and F44.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import resource
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.storage.tables import inbox
from tests.conftest import LONG_RUN
from tests.huoji_process import HuojiProcess
from tests.installation import install, read_rows
from tests.marketplace import Fault, Marketplace, message_body, signed_headers
from tests.waiting import eventually, pause

log = logging.getLogger("huoji.chaos")

QUESTION = "什么时候发货"
FLOOD_SECONDS = 60.0 if LONG_RUN else 8.0
FLOODERS = 200
BODY_BYTES = 256 * 1024
_ELLIPSIS, _PADDING = json.dumps("…", ensure_ascii=False).encode(), b'"' + b"x" * BODY_BYTES + b'"'
"""Messages of this size fill the 32 MiB that may wait long before the number of rows does."""

REFUSAL_SECONDS = 0.05
"""Source: the issue of this promise: a refusal takes at most 50 ms."""

LENIENCE = 5
"""How much longer things may take on a machine that has others to serve."""

MOST_MEMORY_MIB = 200
"""What a flood may cost at most: the 32 MiB that wait, as many on their way in, and what the allocator makes of it."""

Program = Callable[..., HuojiProcess]


@pytest.fixture
async def huoji(tmp_path: Path, market: Marketplace, program: Program) -> HuojiProcess:
    """A running program with two accounts."""
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, market, accounts={"shop-1": "", "shop-2": ""})
    process = program(url)
    await asyncio.to_thread(process.start)
    return process


def memory_mib(process: HuojiProcess) -> float:
    """What a program holds in memory now."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextlib.contextmanager
def locked(file: Path, *, held: float, free: float) -> Iterator[None]:
    """Let another program have the database's write lock again and again: so many seconds held, so many free.

    It takes away all of the disk's capacity but for the share that is free.
    """
    over = threading.Event()

    def hold() -> None:
        connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        with contextlib.closing(connection):
            while not over.is_set():
                connection.execute("BEGIN IMMEDIATE")
                over.wait(held)
                connection.execute("ROLLBACK")
                over.wait(free)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def large(name: str) -> bytes:
    """A message whose body is large and whose text is not."""
    body = message_body(QUESTION, message_id=name, conversation_id=name, extra={"padding": "…"})
    return body.replace(_ELLIPSIS, _PADDING)


class Sender:
    """One connection that posts webhooks at next to no cost, so that the flood doesn't wait for itself."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, name: str, body: bytes) -> tuple[int, float]:
        """Post a message; return the status, and the seconds from the last byte to the answer."""
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._connection
        lines = [f"{key}: {value}" for key, value in signed_headers(body, name).items()]
        head = ["POST /webhooks/generic/shop-1 HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        await writer.drain()
        began = time.monotonic()
        answer = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
        return int(answer.split(b" ")[1]), time.monotonic() - began

    async def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection[1].close()
            with contextlib.suppress(OSError):
                await self._connection[1].wait_closed()


async def test_what_does_not_fit_any_more_is_refused_in_a_moment(
    huoji: HuojiProcess, market: Marketplace, tmp_path: Path
) -> None:
    senders = [Sender(huoji.port) for _ in range(FLOODERS)]
    one_more = Sender(huoji.port)
    refusals: list[float] = []
    try:
        with locked(tmp_path / "huoji.db", held=4.5, free=0.1):
            posts = [
                asyncio.create_task(sender.post(f"fill-{n}", large(f"fill-{n}")))
                for n, sender in enumerate(senders)
            ]
            done, _ = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            assert {post.result()[0] for post in done} == {503}
            for n in range(20):
                status, seconds = await one_more.post(f"more-{n}", large(f"more-{n}"))
                if status == 503:
                    refusals.append(seconds)
        await asyncio.gather(*posts)
    finally:
        await asyncio.gather(*(sender.close() for sender in (*senders, one_more)))
    log.info("refused in %s ms", [round(seconds * 1000, 1) for seconds in refusals])
    assert len(refusals) >= 10
    assert statistics.median(refusals) < LENIENCE * REFUSAL_SECONDS


@pytest.mark.timeout(300)
async def test_a_flood_is_refused_in_part_memory_stays_flat_and_nothing_acked_is_lost(
    huoji: HuojiProcess, market: Marketplace, tmp_path: Path, seed: int
) -> None:
    acked: list[str] = []
    statuses: Counter[int] = Counter()
    memory: list[float] = []
    is_over = False

    async def flood(number: int) -> None:
        n = 0
        sender, rng = senders[number], random.Random(f"{seed} {number}")
        while not is_over:
            name = f"flood-{number}-{n}"
            status, _ = await sender.post(name, large(name))
            statuses[status] += 1
            if status == 200:
                acked.append(name)
                n += 1
            else:
                await pause(rng.uniform(0.2, 1.0))

    async def watch() -> None:
        while not is_over:
            memory.append(memory_mib(huoji))
            await pause(0.05)

    senders = [Sender(huoji.port) for _ in range(FLOODERS)]
    before = memory_mib(huoji)
    tasks = [asyncio.create_task(watch())]
    try:
        with locked(tmp_path / "huoji.db", held=2.5, free=0.1):
            tasks += [asyncio.create_task(flood(number)) for number in range(FLOODERS)]
            await pause(FLOOD_SECONDS)
            is_over = True
        await asyncio.gather(*tasks)
    finally:
        await asyncio.gather(*(sender.close() for sender in senders))
    figures = {"memory_mib": (round(before), round(max(memory))), "statuses": dict(statuses)}
    # Shown with -o log_cli=true.
    log.info("overload %s", figures)
    assert set(statuses) == {200, 503}, figures
    assert max(memory) < before + MOST_MEMORY_MIB, figures
    third = len(memory) // 3
    assert max(memory[2 * third :]) < max(memory[: 2 * third]) + 50, figures
    await market.wait_for(len(acked), timeout=120)
    assert await asyncio.to_thread(huoji.terminate) == 0
    rows = {
        row["dedupe_key"]: row["state"]
        for row in await read_rows(huoji.environment["HUOJI_DATABASE_URL"], inbox)
    }
    assert [name for name in acked if rows.get(f"m:{name}") != "done"] == []


async def test_a_database_that_another_program_keeps_locked_is_told_as_such_and_heals_by_itself(
    huoji: HuojiProcess, market: Marketplace, tmp_path: Path
) -> None:
    # F12
    with locked(tmp_path / "huoji.db", held=60, free=1):
        exchange = await market.exchange(
            huoji.url, message_body(QUESTION, message_id="m-1", conversation_id="c-1")
        )
        assert exchange is not None
        assert exchange[0] == 503
        assert "retry-after" in {name.lower() for name in exchange[1]}
        assert huoji.running
    assert await market.say_until_acked(huoji.url, QUESTION, message_id="m-1", conversation_id="c-1")
    await market.wait_for(1, conversation_id="c-1")


async def median_wait(huoji: HuojiProcess, market: Marketplace, prefix: str, number: int) -> float:
    """Ask in so many conversations of the second account, one after the other; return the median wait for an answer."""
    waits: list[float] = []
    for n in range(number):
        name = f"{prefix}-{n}"
        began = time.monotonic()
        status = await market.say(
            huoji.url, QUESTION, message_id=name, conversation_id=name, account="shop-2"
        )
        assert status == 200
        await market.wait_for(1, conversation_id=name, timeout=20)
        waits.append(time.monotonic() - began)
    return statistics.median(waits)


async def test_a_marketplace_that_hangs_with_hundreds_waiting_costs_the_others_nothing(
    huoji: HuojiProcess, market: Marketplace
) -> None:
    # F21
    before = await median_wait(huoji, market, "before", 20)
    never = asyncio.Event()
    market.judge = lambda reply: Fault(until=never) if reply.account == "shop-1" else None
    names = [f"hung-{n}" for n in range(300)]
    for start in range(0, len(names), 50):
        posts = [
            market.say(huoji.url, QUESTION, message_id=name, conversation_id=name)
            for name in names[start : start + 50]
        ]
        assert set(await asyncio.gather(*posts)) == {200}
    await eventually(lambda: len(market.replies) >= 64 + 20, what="as many requests under way as may be")
    during = await median_wait(huoji, market, "during", 20)
    hung = [reply for reply in market.replies if reply.account == "shop-1"]
    assert len(hung) <= 64
    assert during < 2 * before + 0.05, (before, during)
    never.set()


async def test_out_of_file_descriptors_it_serves_who_is_there_and_heals_by_itself(
    huoji: HuojiProcess, market: Marketplace
) -> None:
    # F43
    reader, writer = await asyncio.open_connection("127.0.0.1", huoji.port)

    async def alive() -> bytes:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await asyncio.wait_for(reader.readexactly(length), 10)
        return head.split(b" ")[1]

    assert await alive() == b"200"
    limits = resource.prlimit(huoji.pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{huoji.pid}/fd"))  # noqa: PTH208 - only their number
    resource.prlimit(huoji.pid, resource.RLIMIT_NOFILE, (used + 3, limits[1]))
    crowd: list[asyncio.StreamWriter] = []
    for _ in range(30):
        with contextlib.suppress(OSError):
            crowd.append((await asyncio.open_connection("127.0.0.1", huoji.port))[1])
    assert await alive() == b"200"
    assert huoji.running
    for one in crowd:
        one.close()
    resource.prlimit(huoji.pid, resource.RLIMIT_NOFILE, limits)
    assert await alive() == b"200"
    writer.close()
    assert await market.say_until_acked(huoji.url, QUESTION, message_id="m-1", conversation_id="c-1")
    await market.wait_for(1, conversation_id="c-1", timeout=20)
