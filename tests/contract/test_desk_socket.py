"""The agents' socket as its clients see it: over a real server, exactly as the contract says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import insert
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.desk.auth import hash_token
from app.desk.events import append_events, notice_event
from app.desk.permissions import Role
from app.storage.tables import sessions
from tests.api_world import PASSWORD, ApiWorld
from tests.desk_world import DeskWorld
from tests.fakes import FakeClock, FakeIds
from tests.waiting import eventually


class Agent:
    """A client: sends frames, keeps events, answers by id."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self._number = 0

    async def call(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a frame and return its answer."""
        self._number += 1
        frame_id = f"f{self._number}"
        await self.connection.send(json.dumps({"id": frame_id, "type": kind, "data": data}))
        return await self.answer(frame_id)

    async def answer(self, frame_id: str | None) -> dict[str, Any]:
        """Read until the answer to a frame comes."""
        while True:
            frame = json.loads(await asyncio.wait_for(self.connection.recv(), 10))
            if "seq" in frame:
                self.events.append(frame)
            elif frame["re"] == frame_id:
                return frame

    async def ok(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a frame that must succeed; return the answer's data."""
        answer = await self.call(kind, **data)
        assert answer["type"] == "ok", answer
        return answer["data"]

    async def refused(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a frame that must fail; return why."""
        answer = await self.call(kind, **data)
        assert answer["type"] == "error", answer
        return answer["data"]

    async def event(self, kind: str) -> dict[str, Any]:
        """Return the next event of a type; others before it are kept."""
        for index, frame in enumerate(self.events):
            if frame["type"] == kind:
                return self.events.pop(index)
        while True:
            frame = json.loads(await asyncio.wait_for(self.connection.recv(), 10))
            assert "seq" in frame, frame
            if frame["type"] == kind:
                return frame
            self.events.append(frame)

    async def close_code(self) -> int:
        """Wait until the server closes; return the code."""
        await asyncio.wait_for(self._read_to_the_end(), 10)
        code = self.connection.close_code
        assert code is not None
        return code

    async def _read_to_the_end(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.connection.recv()


class Office:
    """A running server with a desk behind it."""

    def __init__(self, api: ApiWorld, port: int) -> None:
        self.api = api
        self.desk = api.desk
        self.port = port
        self.url = f"ws://127.0.0.1:{port}/ws/agent"

    @contextlib.asynccontextmanager
    async def agent(
        self, name: str, *, status: str | None = "online", token: str | None = None, **hello: Any
    ) -> AsyncIterator[Agent]:
        """Connect somebody who exists already and say hello."""
        token = token or await self.api.token(name)
        async with connect(self.url, additional_headers={"Authorization": f"Bearer {token}"}) as connection:
            agent = Agent(connection)
            await agent.ok("hello", **hello)
            if status is not None:
                await agent.ok("status", status=status)
            yield agent


class _Server(uvicorn.Server):
    """Leaves the test runner's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def office(tmp_path: Path, clock: FakeClock, ids: FakeIds) -> AsyncIterator[Office]:
    """A server on a free port, the desk's loops running."""
    desk = await DeskWorld.open(f"sqlite:///{tmp_path / 'huoji.db'}", clock=clock, ids=ids)
    api = ApiWorld(desk)
    await desk.hub.start()
    desk.presence.start()
    desk.router.start()
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        api.app, lifespan="off", log_config=None, ws="websockets-sansio", ws_per_message_deflate=False,
        ws_max_size=256 * 1024, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    await eventually(lambda: server.started)
    yield Office(api, listening.getsockname()[1])
    await api.sockets.close_all()
    server.should_exit = True
    await serving
    await desk.close()


async def test_hello_tells_who_one_is_and_where_the_stream_begins(office: Office) -> None:
    user = await office.api.add("lin", groups=["presale", "vip"], max_load=3)
    held = await office.desk.conversation(state="human", agent=user)
    token = await office.api.token("lin")
    async with connect(office.url, additional_headers={"Authorization": f"Bearer {token}"}) as connection:
        said = await Agent(connection).ok("hello")

    assert said["agent"] == {"id": str(user.id), "name": "lin", "display_name": "lin", "role": "agent"}
    assert said["groups"] == ["presale", "vip"]
    assert (said["load"], said["max_load"], said["status"]) == (1, 3, "offline")
    assert [one["id"] for one in said["conversations"]] == [str(held)]
    assert said["seq"] == await office.desk.hub.position()


async def test_a_threat_reaches_the_agent_with_order_and_transcript_and_the_work_goes_through(
    office: Office,
) -> None:
    await office.api.add("boss", Role.SUPERVISOR)
    conversation = await office.desk.conversation()
    async with office.agent("boss") as boss:
        escalation = await office.desk.escalate(conversation, group="supervisor", major=True)
        offered = await boss.event("escalation.offered")
        assert offered["data"]["escalation_id"] == str(escalation)
        assert offered["data"]["order"]["order_id"] == "O-9"
        assert offered["data"]["transcript"][-1]["content"]["text"] == "我要投诉你们,打12315"

        accepted = await boss.ok("accept", escalation_id=str(escalation))
        assert accepted["conversation"]["state"] == "human"
        assert (await boss.event("conversation.assigned"))["data"]["id"] == str(conversation)
        sent = await boss.ok(
            "send", conversation_id=str(conversation), content={"type": "text", "text": "您好，非常抱歉。"},
            client_message_id="m1",
        )  # fmt: skip
        again = await boss.ok(
            "send", conversation_id=str(conversation), content={"type": "text", "text": "您好，非常抱歉。"},
            client_message_id="m1",
        )  # fmt: skip
        assert again == sent
        assert len(await office.desk.outbox_rows()) == 1
        await boss.ok("note", conversation_id=str(conversation), text="已致歉")
        await boss.ok("read", conversation_id=str(conversation))
        closed = await boss.ok("resolve", conversation_id=str(conversation), outcome="solved")
        assert closed["conversation"]["state"] == "closed"
        assert (await boss.event("conversation.closed"))["data"]["id"] == str(conversation)


async def test_a_hundred_agents_accept_at_once_over_their_sockets_and_one_wins(office: Office) -> None:
    for number in range(100):
        await office.desk.person(f"a{number}")
    rows = await office.api.users.list()
    agents: list[Agent] = []
    connections: list[ClientConnection] = []
    for user in rows[:100]:
        token = await _session_for(office, user.id)
        connection = await connect(office.url, additional_headers={"Authorization": f"Bearer {token}"})
        connections.append(connection)
        agents.append(Agent(connection))
    await asyncio.gather(*(agent.ok("hello") for agent in agents))
    assert office.api.sockets.count == 100

    for number in range(3):
        escalation = await office.desk.escalate(await office.desk.conversation(f"c-{number}"))
        answers = await asyncio.gather(
            *(agent.call("accept", escalation_id=str(escalation)) for agent in agents)
        )
        winners = [answer for answer in answers if answer["type"] == "ok"]
        losers = [answer["data"] for answer in answers if answer["type"] == "error"]
        assert len(winners) == 1
        assert {loser["code"] for loser in losers} == {"taken"}
        assert len({loser["by"] for loser in losers}) == 1
    await asyncio.gather(*(connection.close() for connection in connections))


async def test_the_stream_resumes_without_loss_over_a_broken_connection(office: Office) -> None:
    user = await office.api.add("lin")
    told = 30
    seen: list[str] = []
    cursor: int | None = None

    async def talk() -> None:
        for number in range(told):
            event = notice_event(code="t", text=str(number), now_ms=0, agent_id=user.id)
            await office.desk.database.write(lambda connection, one=event: append_events(connection, [one]))
            office.desk.hub.notify()

    token = await office.api.token("lin")
    talking: asyncio.Task[None] | None = None
    while len(seen) < told:
        hello = {} if cursor is None else {"resume_after": cursor}
        async with connect(office.url, additional_headers={"Authorization": f"Bearer {token}"}) as connection:
            agent = Agent(connection)
            begins = (await agent.ok("hello", **hello))["seq"]
            cursor = begins if cursor is None else cursor
            talking = talking or asyncio.create_task(talk())
            for _ in range(min(7, told - len(seen))):
                event = await agent.event("notice")
                seen.append(event["data"]["text"])
                assert event["seq"] > cursor
                cursor = event["seq"]
            connection.transport.abort()
    assert talking is not None
    await talking
    assert seen == [str(number) for number in range(told)]


async def test_a_cursor_from_the_future_is_told_to_reload(office: Office) -> None:
    await office.api.add("lin")
    async with office.agent("lin", status=None, resume_after=10_000) as agent:
        event = await agent.event("resync")
        assert event["seq"] == await office.desk.hub.position()


async def test_an_escalation_raised_before_an_agent_came_reaches_them_once_when_they_say_hello(
    office: Office,
) -> None:
    await office.api.add("lin")
    async with office.agent("lin"):
        pass

    async def nobody_is_there() -> bool:
        return not await office.desk.database.read(office.desk.presence.connected_agents)

    # What is offered while they come is told twice, rather than never.
    await eventually(nobody_is_there, what="the socket's end to be noticed")
    escalation = await office.desk.escalate(await office.desk.conversation())
    async with office.agent("lin", status=None) as agent:
        offered = await agent.event("escalation.offered")
        assert offered["data"]["escalation_id"] == str(escalation)
        await agent.ok("status", status="online")
        await office.desk.router.route()
        await agent.ok("status", status="online")
        assert [one for one in agent.events if one["type"] == "escalation.offered"] == []


async def test_an_open_offer_is_repeated_to_whoever_connects_again(office: Office) -> None:
    await office.api.add("lin")
    async with office.agent("lin") as agent:
        escalation = await office.desk.escalate(await office.desk.conversation())
        await agent.event("escalation.offered")
        async with office.agent("lin", status=None) as second:
            offered = await second.event("escalation.offered")
            assert offered["data"]["escalation_id"] == str(escalation)


@pytest.mark.parametrize(
    ("frame", "code", "re"),
    [
        ("nonsense", "frame_invalid", None),
        ("[]", "frame_invalid", None),
        ('{"id": 5, "type": "hello"}', "frame_invalid", None),
        ('{"id": "1", "type": "hello", "extra": 1}', "frame_invalid", None),
        ('{"id": "1", "type": "fly"}', "unknown_type", "1"),
        ('{"id": "1", "type": "accept", "data": {"escalation_id": "1"}}', "hello_first", "1"),
        ('{"id": "1", "type": "hello", "data": {"resume": 1}}', "frame_invalid", "1"),
        ('{"id": "1", "type": "hello", "data": {"resume_after": "1"}}', "frame_invalid", "1"),
    ],
)
async def test_bad_frames_are_answered_and_the_socket_stays(
    office: Office, frame: str, code: str, re: str | None
) -> None:
    await office.api.add("lin")
    token = await office.api.token("lin")
    async with connect(office.url, additional_headers={"Authorization": f"Bearer {token}"}) as connection:
        agent = Agent(connection)
        await connection.send(frame)
        answer = await agent.answer(re)
        assert (answer["type"], answer["data"]["code"]) == ("error", code)
        await agent.ok("hello")
        assert (await agent.refused("hello"))["code"] == "hello_again"


async def test_commands_out_of_scope_are_not_found_and_held_ones_name_the_holder(office: Office) -> None:
    holder = await office.api.add("he")
    await office.api.add("lin")
    elsewhere = await office.desk.conversation("c-1", shop="s2", group="supervisor")
    held = await office.desk.conversation("c-2", state="human", agent=holder, group="presale")
    async with office.agent("lin") as agent:
        text = {"content": {"text": "您好"}, "client_message_id": "1"}
        for kind, more in [("claim", {}), ("send", text), ("note", {"text": "x"}), ("release", {}),
                           ("resolve", {"outcome": "x"}), ("transfer", {"to": {"group_id": "vip"}})]:  # fmt: skip
            assert (await agent.refused(kind, conversation_id=str(elsewhere), **more))["code"] == "not_found"
            assert (await agent.refused(kind, conversation_id="0x1", **more))["code"] == "not_found"
        refused = await agent.refused("send", conversation_id=str(held), **text)
        assert (refused["code"], refused["by"]) == ("held_by", "he")
        assert "he" in refused["message"]
        for kind, more in [("takeover", {}), ("watch", {}), ("whisper", {"text": "x"})]:
            assert (await agent.refused(kind, conversation_id=str(held), **more))["code"] == "forbidden"


async def test_a_supervisor_watches_whispers_and_takes_over(office: Office) -> None:
    holder = await office.api.add("he")
    await office.api.add("boss", Role.SUPERVISOR)
    held = await office.desk.conversation(state="human", agent=holder)
    async with office.agent("he") as agent, office.agent("boss") as boss:
        seen = await boss.ok("watch", conversation_id=str(held))
        assert [one["author"] for one in seen["messages"]] == ["buyer"]
        await boss.ok("whisper", conversation_id=str(held), text="先道歉")
        assert (await agent.event("notice"))["data"]["text"] == "先道歉"
        await boss.ok("unwatch", conversation_id=str(held))
        await boss.ok("takeover", conversation_id=str(held))
        assert (await agent.event("conversation.updated"))["data"]["agent_id"] != str(holder.id)
    assert await office.desk.outbox_rows() == []


async def test_nobody_gets_in_without_signing_in_and_no_foreign_page_with_a_cookie(office: Office) -> None:
    await office.api.add("lin")
    async with connect(office.url) as connection:
        assert await Agent(connection).close_code() == 4401
    async with connect(office.url, additional_headers={"Authorization": "Bearer nope"}) as connection:
        assert await Agent(connection).close_code() == 4401
    async with connect(office.url + "?token=" + await office.api.token("lin")) as connection:
        assert await Agent(connection).close_code() == 4401

    signed_in = await office.api.sessions.sign_in("lin", PASSWORD, address="a", cookie=True)
    cookie = {"Cookie": f"huoji_session={signed_in.token}"}
    for origin in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(office.url, additional_headers={**cookie, **origin})
        assert refused.value.response.status_code == 403
    own = office.url.replace("ws://", "http://").removesuffix("/ws/agent")
    for origin in ("https://desk.example.com", own):
        async with connect(office.url, additional_headers={**cookie, "Origin": origin}) as connection:
            await Agent(connection).ok("hello")


async def test_signing_out_closes_the_socket_and_so_does_a_disabled_account(office: Office) -> None:
    await office.api.add("lin")
    token = await office.api.token("lin")
    async with office.agent("lin", token=token) as agent:
        await office.api.client(token).delete("/api/v1/sessions/me")
        assert await agent.close_code() == 4401
    async with office.agent("lin") as agent:
        await office.api.users.disable("lin")
        await office.api.sockets.recheck()
        assert await agent.close_code() == 4401


async def test_several_sockets_are_fine_until_one_takes_over(office: Office) -> None:
    await office.api.add("lin")
    async with office.agent("lin") as first, office.agent("lin") as second:
        assert office.api.sockets.count == 2
        async with office.agent("lin", takeover=True) as third:
            assert await first.close_code() == 4409
            assert await second.close_code() == 4409
            await third.ok("status", status="busy")
            assert office.api.sockets.count == 1


async def test_a_restart_says_so(office: Office) -> None:
    await office.api.add("lin")
    async with office.agent("lin") as agent:
        await office.api.sockets.close_all()
        assert await agent.close_code() == 1012
        assert re.fullmatch(r"the server restarts; retry_in=[0-5]\.\d", agent.connection.close_reason or "")


async def test_a_flood_and_a_giant_frame_are_cut(office: Office) -> None:
    await office.api.add("lin")
    async with office.agent("lin") as agent:
        await agent.connection.send("x" * (65 * 1024))
        assert await agent.close_code() == 1009
    async with office.agent("lin") as agent:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(2000):
                await agent.connection.send('{"id": "1", "type": "status", "data": {"status": "busy"}}')
        assert await agent.close_code() == 1008


async def test_a_reader_that_stops_is_cut_at_a_megabyte_others_notice_nothing_and_it_catches_up(
    office: Office,
) -> None:
    lazy, eager = await office.api.add("lazy"), await office.api.add("eager")
    token = await office.api.token("lazy")
    text = "长" * 10_000
    number = 300  # 9 MB: more than the operating system's buffers and the cap together

    async def tell(agent_id: int, position: int) -> None:
        event = notice_event(code="t", text=f"{position}:{text}", now_ms=0, agent_id=agent_id)
        await office.desk.database.write(lambda connection: append_events(connection, [event]))
        office.desk.hub.notify()

    async with office.agent("eager", status=None) as awake:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", office.port))
        bearer = {"Authorization": f"Bearer {token}"}
        sleeper = await connect(office.url, additional_headers=bearer, sock=small)
        asleep = Agent(sleeper)
        start = (await asleep.ok("hello"))["seq"]
        sleeper.transport.pause_reading()
        for position in range(number):
            await tell(lazy.id, position)
            if position % 50 == 0:
                await tell(eager.id, position)
                assert (await awake.event("notice"))["data"]["text"].startswith(f"{position}:")
        # Bounded: what a socket holds never exceeds the cap, so the sleeping one must have been cut by now.
        await eventually(lambda: office.api.sockets.count == 1, timeout=20, what="the slow reader to be cut")
        sleeper.transport.abort()
        await sleeper.wait_closed()

        async with connect(office.url, additional_headers={"Authorization": f"Bearer {token}"}) as connection:
            back = Agent(connection)
            await back.ok("hello", resume_after=start)
            texts = [(await back.event("notice"))["data"]["text"].partition(":")[0] for _ in range(number)]
        assert texts == [str(position) for position in range(number)]


async def _session_for(office: Office, user_id: int) -> str:
    """A bearer session of somebody who has no password."""
    token = office.desk.ids.token()
    row = {
        "token_hash": hash_token(token), "kind": "bearer", "user_id": user_id, "created_at_ms": 0,
        "expires_at_ms": office.desk.clock.now_ms() + 3_600_000,
    }  # fmt: skip
    await office.desk.database.write(lambda connection: connection.execute(insert(sessions), row).rowcount)
    return token
