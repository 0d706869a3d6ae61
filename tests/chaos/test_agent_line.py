"""The line between an agent's console and Huoji spoilt in every way, while escalations come in.

Source: the faults to survive, F36 and F38; the contracts, section 4.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from app.desk.permissions import Role
from tests.chaos.load import COMPLAINT
from tests.chaos.troubles import TROUBLES, suffer
from tests.faults.proxy import FaultProxy
from tests.huoji_process import HuojiProcess
from tests.installation import PASSWORD, install, on_installation
from tests.marketplace import Marketplace
from tests.waiting import eventually, pause


class Console:
    """An agent's client that comes back with its cursor whenever the line breaks, and keeps what it is told."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self.events: list[dict[str, Any]] = []
        self.cursor: int | None = None
        self.connections = 0

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._listen()
            except (ConnectionClosed, InvalidHandshake, InvalidMessage, OSError, EOFError, TimeoutError):
                await pause(0.05)

    async def _listen(self) -> None:
        async with connect(
            self._url, additional_headers=self._headers, open_timeout=3, close_timeout=0.2, ping_interval=None
        ) as connection:
            hello: dict[str, Any] = {} if self.cursor is None else {"resume_after": self.cursor}
            await connection.send(json.dumps({"id": "1", "type": "hello", "data": hello}))
            while True:
                # A line that is stuck says nothing, not even that it ended.
                frame = json.loads(await asyncio.wait_for(connection.recv(), 2))
                if "seq" not in frame:
                    assert frame["type"] == "ok", frame
                    self.connections += 1
                    self.cursor = frame["data"]["seq"] if self.cursor is None else self.cursor
                    continue
                assert frame["type"] != "resync", frame
                self.events.append(frame)
                self.cursor = frame["seq"]

    def told(self) -> set[str]:
        """The conversations it was told of."""
        updates = [event["data"] for event in self.events if event["type"] == "conversation.updated"]
        return {data["external_id"] for data in updates}


@pytest.fixture
async def huoji(tmp_path: Path, market: Marketplace, program: Callable[..., HuojiProcess]) -> HuojiProcess:
    """A running program with an agent."""
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, market)
    await on_installation(url, lambda installation: installation.add_agent("lin", role=Role.SUPERVISOR))
    process = program(url)
    await asyncio.to_thread(process.start)
    return process


@pytest.fixture
async def line(huoji: HuojiProcess, seed: int) -> AsyncIterator[FaultProxy]:
    """The line from the agent to the program."""
    async with FaultProxy(huoji.port, seed=seed) as proxy:
        yield proxy


async def sign_in(huoji: HuojiProcess) -> str:
    """Sign the agent in; return the token."""
    async with httpx.AsyncClient(base_url=huoji.url) as client:
        answer = await client.post("/api/v1/sessions", json={"username": "lin", "password": PASSWORD})
    return answer.json()["token"]


@pytest.mark.timeout(180)
async def test_whatever_happens_to_the_line_the_console_is_told_everything_once_and_in_order(
    huoji: HuojiProcess, line: FaultProxy, market: Marketplace
) -> None:
    console = Console(f"ws://127.0.0.1:{line.port}/ws/agent", await sign_in(huoji))
    running = asyncio.create_task(console.run())
    wanted: set[str] = set()
    try:
        await eventually(lambda: console.connections == 1, what="hello")
        for name, trouble in TROUBLES.items():
            suffering = asyncio.create_task(suffer(line, trouble, 0.5))
            for n in range(3):
                conversation = f"{name} {n}"
                assert (
                    await market.say(
                        huoji.url, COMPLAINT, message_id=f"m {conversation}", conversation_id=conversation
                    )
                    == 200
                )
                wanted.add(conversation)
            await suffering
        await eventually(lambda: wanted <= console.told(), timeout=60, what="every escalation")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    seqs = [event["seq"] for event in console.events]
    assert seqs == sorted(set(seqs))
    assert console.connections > 3
    assert await asyncio.to_thread(huoji.terminate) == 0
    assert '"level":"error"' not in huoji.log, huoji.log[-3000:]
