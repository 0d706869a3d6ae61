"""Two programs on one PostgreSQL: webhooks, sockets and API calls land anywhere, with Redis and without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.desk.permissions import Role
from tests.huoji_process import HuojiProcess
from tests.installation import PASSWORD, SMALL_KNOWLEDGE, environment, install, on_installation
from tests.marketplace import Marketplace
from tests.redis_process import RedisProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]

THREAT = "我要投诉你们,打12315"
METRICS_TOKEN = "the-metrics-token-of-the-tests"

MORE_KNOWLEDGE = """
  - id: gift
    question: 有没有赠品
    variants: [送不送小礼物, 买了有赠品吗]
    answer: 亲，本店下单都送一份小礼品哦~
"""


class Agent:
    """A client of the agents' socket that keeps whatever comes."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self.answers: dict[str, dict[str, Any]] = {}
        self._sent = 0
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                frame = json.loads(await self.connection.recv())
                if "seq" in frame:
                    self.events.append(frame)
                else:
                    self.answers[frame["re"]] = frame

    async def call(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a frame; return its answer."""
        self._sent += 1
        frame_id = str(self._sent)
        await self.connection.send(json.dumps({"id": frame_id, "type": kind, "data": data}))
        found_at_last = await eventually(
            lambda: self.answers.pop(frame_id, None), what=f"the answer to {kind}"
        )
        assert found_at_last is not None
        return found_at_last

    async def ok(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a frame that must succeed; return the answer's data."""
        answer = await self.call(kind, **data)
        assert answer["type"] == "ok", answer
        return answer["data"]

    async def event(self, kind: str, **expected: Any) -> dict[str, Any]:
        """Wait for an event of a type whose data are as expected; return the data."""

        def found() -> dict[str, Any] | None:
            for frame in self.events:
                data = frame["data"]
                if frame["type"] == kind and all(data.get(key) == value for key, value in expected.items()):
                    return data
            return None

        found_at_last = await eventually(found, what=f"{kind} with {expected}")
        assert found_at_last is not None
        return found_at_last

    async def closed(self) -> int | None:
        """Wait until the server has closed; return the code."""
        await eventually(lambda: self._reading.done(), what="the socket to be closed")
        return self.connection.close_code


class Company:
    """Two programs, their marketplace and their Redis, if any."""

    def __init__(
        self, a: HuojiProcess, b: HuojiProcess, market: Marketplace, redis: RedisProcess | None, url: str
    ) -> None:
        self.a = a
        self.b = b
        self.market = market
        self.redis = redis
        self.database_url = url

    @property
    def both(self) -> tuple[HuojiProcess, HuojiProcess]:
        """The two programs."""
        return self.a, self.b

    async def token(self, process: HuojiProcess, name: str) -> str:
        """Sign somebody in at one of the programs."""
        async with httpx.AsyncClient(base_url=process.url, timeout=30) as client:
            answer = await client.post("/api/v1/sessions", json={"username": name, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    @contextlib.asynccontextmanager
    async def agent(
        self, process: HuojiProcess, name: str, *, token: str | None = None, **hello: Any
    ) -> AsyncIterator[Agent]:
        """Connect somebody to one of the programs and let them say hello."""
        headers = {"Authorization": f"Bearer {token or await self.token(process, name)}"}
        url = process.url.replace("http", "ws", 1) + "/ws/agent"
        async with connect(url, additional_headers=headers, open_timeout=30) as connection:
            agent = Agent(connection)
            await agent.ok("hello", **hello)
            yield agent

    async def say(self, process: HuojiProcess, text: str, message_id: str, conversation_id: str) -> None:
        """A buyer's message comes in at one of the programs."""
        status = await self.market.say(
            process.url, text, message_id=message_id, conversation_id=conversation_id
        )
        assert status == 200

    async def metric(self, process: HuojiProcess, name: str) -> float:
        """Return a figure of one of the programs."""
        async with httpx.AsyncClient(base_url=process.url, timeout=30) as client:
            answer = await client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
        for line in answer.text.splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    async def degraded(self) -> list[Any]:
        """What each program says is degraded while it is ready."""
        found: list[Any] = []
        for process in self.both:
            async with httpx.AsyncClient(base_url=process.url, timeout=30) as client:
                answer = await client.get("/readyz")
            assert answer.status_code == 200, answer.text
            found.append(answer.json().get("degraded"))
        return found

    async def guess(self, process: HuojiProcess, name: str) -> int:
        """Try a wrong password; return the status."""
        wrong = {"username": name, "password": "a wrong guess"}
        async with httpx.AsyncClient(base_url=process.url, timeout=30) as client:
            return (await client.post("/api/v1/sessions", json=wrong)).status_code

    async def bus_is_well(self) -> bool:
        """Whether hints get through at both."""
        return all([await self.metric(one, "huoji_bus_connected") == 1 for one in self.both])


@contextlib.asynccontextmanager
async def company(
    folder: Path, database_url: str, redis: RedisProcess | None, **environment_more: str
) -> AsyncIterator[Company]:
    async with Marketplace() as market:
        await install(database_url, folder, market)

        async def people(installation: Any) -> None:
            for name in ("lin", "wang"):
                await installation.add_agent(name, groups=("presale", "aftersale", "vip", "supervisor"))
            await installation.add_agent("boss", role=Role.SUPERVISOR)

        await on_installation(database_url, people)
        more = {"HUOJI_METRICS_TOKEN": METRICS_TOKEN, **environment_more}
        if redis is not None:
            more["HUOJI_REDIS_URL"] = redis.url
        settings = environment(database_url, **more)
        made = [HuojiProcess(folder / name, environment=settings) for name in "ab"]
        try:
            for process in made:
                await asyncio.to_thread(process.start, timeout=60)
            yield Company(made[0], made[1], market, redis, database_url)
            for process in made:
                assert '"level":"error"' not in process.log, process.log[-4000:]
        finally:
            for process in made:
                process.kill()


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    """A Redis that a test may kill."""
    with RedisProcess() as server:
        yield server


async def work_through(firm: Company, *, name: str) -> None:
    """An agent at the first program, webhooks at both, a supervisor watching at each; everything in one order."""
    market = firm.market
    async with (
        firm.agent(firm.a, "lin") as lin,
        firm.agent(firm.a, "boss") as boss_a,
        firm.agent(firm.b, "boss") as boss_b,
    ):
        await lin.ok("status", status="online")
        # One conversation for each program's partitions, most likely; whoever owns them, it has to work.
        for number in range(4):
            conversation, process = f"{name}-{number}", firm.both[number % 2]
            await firm.say(process, THREAT, f"{conversation}-m1", conversation)
            offer = await lin.event("escalation.offered")
            while offer["conversation"]["external_id"] != conversation:
                lin.events = [one for one in lin.events if one["data"] != offer]
                offer = await lin.event("escalation.offered")
            ours = offer["conversation"]["id"]
            await lin.ok("accept", escalation_id=offer["escalation_id"])
            before = len(market.delivered(conversation))
            sent = await lin.ok(
                "send",
                conversation_id=ours,
                content={"type": "text", "text": f"您好，我是小林（{number}）"},
                client_message_id=f"{conversation}-k1",
            )
            assert sent
            await market.wait_for(before + 1, conversation_id=conversation, timeout=30)
            last = market.delivered(conversation)[-1]
            assert (last.author, last.text) == ("agent", f"您好，我是小林（{number}）")
            await lin.event("message.delivery", conversation_id=ours, status="sent")
            # A human has it: whichever program gets the next question, the bot stays silent.
            await firm.say(firm.both[(number + 1) % 2], "什么时候发货", f"{conversation}-m2", conversation)
            await lin.event("message.created", external_id=f"{conversation}-m2")
            await lin.ok("release", conversation_id=ours)
            await firm.say(process, "什么时候发货", f"{conversation}-m3", conversation)
            await eventually(
                lambda conversation=conversation: (
                    market.delivered(conversation)[-1].answers == (f"{conversation}-m3",)
                ),
                what="the bot to be back",
            )
            assert not any("m2" in one for reply in market.delivered(conversation) for one in reply.answers)
        await lin.ok("status", status="offline")

        def seen(boss: Agent) -> list[tuple[int, str]]:
            return [(one["seq"], one["type"]) for one in boss.events]

        released = [one for one in boss_a.events if one["type"] == "conversation.updated"]
        assert released
        await eventually(lambda: seen(boss_a) == seen(boss_b), what="both to have seen the same")
        assert [seq for seq, _ in seen(boss_a)] == sorted({seq for seq, _ in seen(boss_a)})
    assert market.bad_signatures == 0
    assert all(len(keys) == 1 for keys in market.keys_by_answered().values())


@pytest.mark.redis
async def test_everything_works_with_a_redis_that_hangs_answers_dies_and_comes_back_empty(
    tmp_path: Path, postgres_url: str, redis: RedisProcess
) -> None:
    redis.freeze()
    async with company(tmp_path, postgres_url, redis) as firm:
        await work_through(firm, name="hung")
        assert not await firm.bus_is_well()

        redis.thaw()
        await eventually(firm.bus_is_well, what="the bus")
        await work_through(firm, name="well")
        assert await firm.degraded() == [None, None]

        redis.kill()
        await work_through(firm, name="gone")
        trouble = {"bus": "redis: unreachable; polling instead"}
        assert await firm.degraded() == [trouble, trouble]

        redis.start()
        await eventually(firm.bus_is_well, what="the bus to be back")
        await work_through(firm, name="back")


async def test_knowledge_sign_out_take_over_and_the_count_of_wrong_passwords_concern_both_without_redis(
    tmp_path: Path, postgres_url: str
) -> None:
    async with company(tmp_path, postgres_url, None) as firm:

        async def publish(installation: Any) -> None:
            await installation.publish(tmp_path, SMALL_KNOWLEDGE.rstrip("\n") + MORE_KNOWLEDGE)

        await on_installation(firm.database_url, publish)
        for process in firm.both:
            await eventually(
                lambda process=process: any(
                    "knowledge.in_service" in line and '"version":2' in line.replace(" ", "")
                    for line in process.log.splitlines()
                ),
                what="the new version in service",
            )
        for number in range(6):
            await firm.say(firm.both[number % 2], "有没有赠品", f"g-{number}", f"c-{number}")
        await firm.market.wait_for(6, timeout=30)
        assert all("小礼品" in reply.text for reply in firm.market.delivered())

        token = await firm.token(firm.a, "lin")
        async with (
            firm.agent(firm.b, "lin", token=token) as elsewhere,
            firm.agent(firm.a, "lin", token=token, takeover=True) as here,
        ):
            assert await elsewhere.closed() == 4409
            async with httpx.AsyncClient(base_url=firm.b.url, timeout=30) as client:
                gone = await client.delete(
                    "/api/v1/sessions/me", headers={"Authorization": f"Bearer {token}"}
                )
            assert gone.status_code == 204, gone.text
            assert await here.closed() == 4401

        statuses = [await firm.guess(firm.both[number % 2], "wang") for number in range(6)]
        assert statuses == [401] * 5 + [429]
