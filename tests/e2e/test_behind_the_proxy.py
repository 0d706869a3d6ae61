"""Two real processes on one PostgreSQL behind the real proxy: what an update of one of them costs."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests import nginx, processes
from tests.huoji_process import HuojiProcess
from tests.installation import QUESTIONS, environment, install
from tests.marketplace import Marketplace
from tests.services import PostgresServer
from tests.waiting import eventually

CONVERSATIONS = 12


async def test_stopping_and_starting_one_process_after_the_other_costs_no_webhook_and_no_reply(
    postgres_server: PostgresServer, tmp_path: Path
):
    """Every post is acked at its first try, although each process is stopped once meanwhile."""
    nginx.nginx()
    url = postgres_server.url(postgres_server.create_database())
    question = next(iter(QUESTIONS))
    async with Marketplace() as market:
        await install(url, tmp_path, market)
        listen, log = processes.free_port(), tmp_path / "nginx.txt"
        with (
            HuojiProcess(tmp_path / "one", environment=environment(url)) as one,
            HuojiProcess(tmp_path / "two", environment=environment(url)) as two,
        ):
            proxy = nginx.start(tmp_path, listen=listen, ports=(one.port, two.port), log=log)
            try:
                await eventually(lambda: listens(listen), timeout=20, what="nginx to listen")
                statuses: list[int | None] = []
                updated = asyncio.Event()

                async def chat(conversation: str) -> None:
                    said = 0
                    while not updated.is_set():
                        said += 1
                        status = await market.say(
                            f"http://127.0.0.1:{listen}",
                            question,
                            message_id=f"{conversation}-{said}",
                            conversation_id=conversation,
                        )
                        statuses.append(status)
                        assert status == 200, f"{conversation}-{said} was answered {status}"
                        await market.wait_for(said, conversation_id=conversation, timeout=60)

                async def update() -> None:
                    for process in (one, two):
                        await asyncio.to_thread(process.terminate)
                        await asyncio.to_thread(process.start)
                    updated.set()

                async with asyncio.TaskGroup() as group:
                    group.create_task(update())
                    for number in range(CONVERSATIONS):
                        group.create_task(chat(f"c-{number}"))
                assert len(statuses) > 2 * CONVERSATIONS, "hardly anything was said meanwhile"
                assert {len(keys) for keys in market.keys_by_answered().values()} == {1}
                assert len(market.keys_by_answered()) == len(statuses)
            finally:
                processes.end(proxy, signal.SIGTERM, timeout=10)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
