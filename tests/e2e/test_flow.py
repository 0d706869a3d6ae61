"""The main job with the real program: a buyer's message in, the right answer or the right human out.

Source: the issue's own "done when"; the contracts, sections 2 to 5.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.huoji_process import HuojiProcess
from tests.installation import PASSWORD, environment, install, on_installation
from tests.marketplace import Marketplace, event_body, order
from tests.waiting import eventually

THREAT = "我要投诉你们,打12315"


class Shop:
    """A running program with a marketplace and people."""

    def __init__(self, process: HuojiProcess, market: Marketplace) -> None:
        self.process = process
        self.market = market
        self.url = process.url

    async def say(self, text: str, message_id: str, conversation_id: str = "c-1", **fields: Any) -> None:
        """A buyer writes; the ack must come."""
        status = await self.market.say(
            self.url, text, message_id=message_id, conversation_id=conversation_id, **fields
        )
        assert status == 200

    async def token(self, name: str) -> str:
        """Sign somebody in."""
        async with httpx.AsyncClient(base_url=self.url) as client:
            answer = await client.post("/api/v1/sessions", json={"username": name, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    @contextlib.asynccontextmanager
    async def agent(self, name: str, **hello: Any) -> AsyncIterator[Agent]:
        """Connect an agent and let them say hello."""
        headers = {"Authorization": f"Bearer {await self.token(name)}"}
        url = self.url.replace("http", "ws", 1) + "/ws/agent"
        async with connect(url, additional_headers=headers) as connection:
            agent = Agent(connection)
            agent.hello = await agent.ok("hello", **hello)
            yield agent


class Agent:
    """A client of the agents' socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.hello: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self._sent = 0

    async def ok(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a frame that must succeed; return the answer's data."""
        self._sent += 1
        await self.connection.send(json.dumps({"id": str(self._sent), "type": kind, "data": data}))
        while True:
            frame = json.loads(await asyncio.wait_for(self.connection.recv(), 10))
            if "seq" in frame:
                self.events.append(frame)
            else:
                assert frame["type"] == "ok", frame
                return frame["data"]

    async def event(self, kind: str) -> dict[str, Any]:
        """Return the next event of a type; earlier others are left out."""
        while True:
            frame = (
                self.events.pop(0)
                if self.events
                else json.loads(await asyncio.wait_for(self.connection.recv(), 10))
            )
            if frame["type"] == kind:
                return frame


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """The program with the shipped knowledge, bursts merged a little faster than usual."""
    async with Marketplace() as market:
        url = f"sqlite:///{tmp_path / 'huoji.db'}"
        await install(url, tmp_path, market, knowledge=None)

        async def people(installation: Any) -> None:
            for name in ("lin", "wang"):
                await installation.add_agent(name, groups=("presale", "aftersale", "vip", "supervisor"))

        await on_installation(url, people)
        settings = environment(url, HUOJI_BURST_QUIET="0.6", HUOJI_BURST_MAX="3")
        process = HuojiProcess(tmp_path, environment=settings)
        try:
            await asyncio.to_thread(process.start)
            yield Shop(process, market)
            assert '"level":"error"' not in process.log, process.log[-4000:]
        finally:
            process.kill()


async def test_where_is_my_parcel_is_answered_with_the_trace_of_the_buyers_own_order(shop: Shop) -> None:
    shop.market.orders["b-1"] = [order("O-9", buyer_id="b-1")]
    await shop.say("我的快递到哪了", "m-1", buyer={"id": "b-1", "nickname": "小王"})
    (reply,) = await shop.market.wait_for(1)
    assert "上海转运中心" in reply.text or "SF1234567890" in reply.text
    assert reply.author == "bot"
    assert reply.answers == ("m-1",)
    assert shop.market.order_requests >= 1
    assert shop.market.bad_signatures == 0


async def test_a_threat_reaches_an_agent_at_once_with_order_and_transcript_and_is_worked_off(
    shop: Shop,
) -> None:
    shop.market.orders["b-1"] = [order("O-9", buyer_id="b-1")]
    async with shop.agent("lin") as lin:
        await lin.ok("status", status="online")
        await shop.say(THREAT, "m-1", buyer={"id": "b-1"})
        offer = (await lin.event("escalation.offered"))["data"]
        assert offer["order"]["order_id"] == "O-9"
        assert offer["order"]["receiver"]["phone"] != "13800001234"
        assert THREAT in [message["content"]["text"] for message in offer["transcript"]]
        conversation = offer["conversation"]["id"]
        assert offer["conversation"]["state"] == "queued"

        await lin.ok("accept", escalation_id=offer["escalation_id"])
        bots = len(shop.market.delivered("c-1"))
        await lin.ok(
            "send",
            conversation_id=conversation,
            content={"type": "text", "text": "您好，我是客服小林，马上为您核实"},
            client_message_id="k-1",
        )
        await shop.market.wait_for(bots + 1, conversation_id="c-1")
        last = shop.market.delivered("c-1")[-1]
        assert (last.author, last.text) == ("agent", "您好，我是客服小林，马上为您核实")
        assert shop.market.bad_signatures == 0
        delivery = await lin.event("message.delivery")
        assert delivery["data"]["status"] == "sent"

        await shop.say("什么时候发货", "m-2", buyer={"id": "b-1"})
        created = await lin.event("message.created")
        while created["data"].get("external_id") != "m-2":
            created = await lin.event("message.created")
        await lin.ok("resolve", conversation_id=conversation, outcome="solved")
        await lin.event("conversation.closed")
    assert shop.market.delivered("c-1")[-1] == last

    await shop.say("什么时候发货", "m-3", buyer={"id": "b-1"})
    await eventually(lambda: shop.market.delivered("c-1")[-1].answers == ("m-3",), what="the bot to be back")


async def test_a_broken_socket_and_a_restart_lose_no_event(shop: Shop) -> None:
    async with shop.agent("lin") as lin:
        await lin.ok("status", status="online")
        seen = lin.hello["seq"]
    names = {f"c-{n}" for n in range(5)}
    for name in sorted(names):
        await shop.say(THREAT, f"m-{name}", name)
    await shop.market.wait_for(len(names))
    shop.process.kill()
    await asyncio.to_thread(shop.process.start)
    async with shop.agent("lin", resume_after=seen) as lin:
        offered: set[str] = set()
        last = seen
        while offered != names:
            event = await lin.event("escalation.offered")
            assert event["seq"] >= last
            last = event["seq"]
            offered.add(event["data"]["conversation"]["external_id"])


async def test_a_burst_is_answered_once_for_all_its_parts(shop: Shop) -> None:
    for n, text in enumerate(["在吗", "我想问一下", "什么时候发货"]):
        await shop.say(text, f"m-{n}")
    (reply,) = await shop.market.wait_for(1)
    assert reply.answers == ("m-0", "m-1", "m-2")


async def test_an_echo_of_our_own_reply_changes_nothing_and_one_of_somebody_else_silences_the_bot(
    shop: Shop,
) -> None:
    await shop.say("什么时候发货", "m-1")
    (reply,) = await shop.market.wait_for(1)
    echo = {"message_id": "e-1", "conversation_id": "c-1", "content": {"type": "text", "text": reply.text}}
    assert await shop.market.post(shop.url, event_body("message.echo", echo)) == 200
    await shop.say("可以开发票吗", "m-2")
    await shop.market.wait_for(2)

    other = {
        "message_id": "e-2",
        "conversation_id": "c-1",
        "content": {"type": "text", "text": "我是店长，我来处理"},
    }
    assert await shop.market.post(shop.url, event_body("message.echo", other)) == 200
    await shop.say("什么时候发货", "m-3")
    # The bot answers another buyer who writes later: by then it would have answered this one, too.
    await shop.say("什么时候发货", "m-4", "c-2")
    await shop.market.wait_for(1, conversation_id="c-2")
    assert [reply.answers[-1] for reply in shop.market.delivered("c-1")] == ["m-1", "m-2"]


async def test_stopping_closes_agents_sockets_with_1012(shop: Shop) -> None:
    async with shop.agent("lin") as lin:
        status = await asyncio.to_thread(shop.process.terminate)
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.wait_for(lin.connection.recv(), 10)
        assert lin.connection.close_code == 1012
    assert status == 0
