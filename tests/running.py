"""The whole program inside the test: started, asked by its ASGI door, stopped in order or dropped as by a power cut."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx
from sqlalchemy import Table, select

from app.core.metrics import Metrics
from app.desk.conversations import ConversationService
from app.desk.escalations import EscalationService
from app.desk.sending import SendService
from app.domain.delivery import WireRequest, WireResponse
from app.replies.guard import check_agent_text
from app.settings import Settings
from app.wiring import Application
from tests.fakes import START
from tests.installation import KEY
from tests.marketplace import message_body, signed_headers
from tests.waiting import eventually


class SwiftClock:
    """A clock that runs faster than the machine's: what waits a second waits a fraction of it."""

    def __init__(self, times: float = 20.0) -> None:
        self._times = times
        self._began = asyncio.get_running_loop().time()
        self._ahead = 0.0

    def leap(self, seconds: float) -> None:
        """Be later by so much at once; whoever sleeps sleeps on."""
        self._ahead += seconds

    def now_ms(self) -> int:
        """The wall clock in milliseconds since 1970 UTC."""
        return round(START.timestamp() * 1000 + self.monotonic() * 1000)

    def monotonic(self) -> float:
        """Seconds since the clock was made, as it counts them."""
        return (asyncio.get_running_loop().time() - self._began) * self._times + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Wait so many of this clock's seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        handle = asyncio.get_running_loop().call_later(
            max(0.0, seconds) / self._times, lambda: future.done() or future.set_result(None)
        )
        try:
            await future
        finally:
            handle.cancel()


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Sent:
    """A reply that reached the marketplace. `taken` is false where it was refused."""

    key: str
    conversation_id: str
    answers: tuple[str, ...]
    author: str
    text: str
    taken: bool


class Callback:
    """Stands for the network and the marketplace behind it; outlives the program, as they do."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.statuses: dict[int, int] = {}
        """Answers other than 200, by the number of the request."""
        self.default = 200
        self.gate: asyncio.Event | None = None
        self.waiting: list[str] = []
        """Keys of requests that came while the gate was shut."""

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse:
        """Take a reply, or refuse it."""
        if request.method != "POST":
            return WireResponse(status=404, headers={}, body=b"")
        if self.gate is not None and not self.gate.is_set():
            self.waiting.append(
                {name.lower(): value for name, value in request.headers.items()}["webhook-id"]
            )
            await self.gate.wait()
        status = self.statuses.get(len(self.sent), self.default)
        headers = {name.lower(): value for name, value in request.headers.items()}
        data = json.loads(request.body)["data"]
        self.sent.append(
            Sent(
                key=headers["webhook-id"],
                conversation_id=data["conversation_id"],
                answers=tuple(data["answers"] or ()),
                author=data["author"],
                text=data["content"].get("text", ""),
                taken=status == 200,
            )
        )
        return WireResponse(status=status, headers={}, body=b"")

    async def close(self) -> None:
        """There is nothing to close."""

    def keys_by_answered(self) -> Mapping[str, set[str]]:
        """The keys under which each message was answered."""
        keys: dict[str, set[str]] = {}
        for one in self.sent:
            for answered in one.answers:
                keys.setdefault(answered, set()).add(one.key)
        return keys

    def delivered(self, conversation_id: str | None = None) -> list[Sent]:
        """What buyers saw: each reply once, in order."""
        first: dict[str, Sent] = {}
        for one in self.sent:
            if one.taken and conversation_id in (None, one.conversation_id):
                first.setdefault(one.key, one)
        return list(first.values())


class Running:
    """One start of the program. As a context manager it is stopped in order at exit, unless it crashed before."""

    def __init__(
        self, url: str, callback: Callback, *, clock: SwiftClock | None = None, **settings: Any
    ) -> None:
        values: dict[str, Any] = {
            "database_url": url,
            "secret_key": base64.urlsafe_b64encode(KEY).decode(),
            "allowed_private_hosts": ("127.0.0.1",),
            "burst_quiet": 0.0,
            **settings,
        }
        self.callback = callback
        self.clock = clock or SwiftClock()
        self.application = Application(
            Settings(**values),
            metrics=Metrics(),
            demo=False,
            own_url="http://huoji.test",
            clock=self.clock,
            client=cast(Any, callback),
        )
        # Nobody asks for pages or the API here; making them takes longer than most of what is tested.
        cast(Any, self.application).http_side = _nothing
        desk = self.application.desk
        self.escalations = EscalationService(desk)
        self.conversations = ConversationService(desk, policy_of=self.application.directory.shop)
        self.sending = SendService(desk, check_text=check_agent_text)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(cast(Any, self.application)), base_url="http://huoji.test"
        )
        self._others: set[asyncio.Task[Any]] = set()
        self._is_down = False

    async def __aenter__(self) -> Running:
        self._others = asyncio.all_tasks()
        await self.application.start()
        return self

    async def __aexit__(self, *unused: object) -> None:
        if not self._is_down:
            await self.stop()

    async def stop(self, seconds: float = 10.0) -> None:
        """Stop in order."""
        self._is_down = True
        await self._client.aclose()
        await self.application.stop(seconds)

    async def crash(self) -> None:
        """Drop everything at once, with nothing finished that isn't in the database."""
        self._is_down = True
        mine = asyncio.all_tasks() - self._others - {cast(Any, asyncio.current_task())}
        for task in mine:
            task.cancel()
        if mine:
            # A dead process waits for nobody: whatever holds out against being cancelled is left behind.
            await asyncio.wait(mine, timeout=5)
        # What the kernel does for a dead process: files are closed and locks are free.
        database = cast(Any, self.application.database)
        with contextlib.suppress(Exception):
            if database._embedded is not None:
                database._embedded.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(database._engine.dispose(), 5)
        with warnings.catch_warnings():
            # Connections that cancelled reads had out are ended by the collector, which is the point here.
            warnings.simplefilter("ignore")
            gc.collect()
        line = getattr(self.application.leases, "_line", None)
        if line is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(line.close(), 5)
        if cast(Any, self.application)._lock is not None:
            cast(Any, self.application)._lock.release()

    async def post(self, body: bytes, *, webhook_id: str, account: str = "shop-1") -> int:
        """Post a signed webhook; return the status."""
        headers = signed_headers(body, webhook_id, at=self.clock.now_ms() / 1000)
        answer = await self._client.post(f"/webhooks/generic/{account}", content=body, headers=headers)
        return answer.status_code

    async def say(
        self, text: str, *, message_id: str, conversation_id: str, account: str = "shop-1", **fields: Any
    ) -> int:
        """Post a buyer's message; return the status."""
        body = message_body(text, message_id=message_id, conversation_id=conversation_id, **fields)
        return await self.post(body, webhook_id=f"wh-{message_id}", account=account)

    async def rows(self, table: Table, *where: Any) -> list[Mapping[str, Any]]:
        """Read rows of a table in the order of their keys."""
        statement = select(table).where(*where).order_by(*table.primary_key.columns)
        return await self.application.database.read(
            lambda connection: [dict(row) for row in connection.execute(statement).mappings()]
        )

    @property
    def is_idle(self) -> bool:
        """Whether everything taken was worked off and has left."""
        application = self.application
        return (
            application.backlog.is_live and not application.lanes.waiting and not application.delivery.waiting
        )

    async def settle(self, *, timeout: float = 20.0) -> None:
        """Wait until everything is worked off and has left."""
        await eventually(lambda: self.is_idle, timeout=timeout, what="everything to be worked off")
