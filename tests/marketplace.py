"""A marketplace on loopback: posts signed webhooks, takes replies with the faults a test asks for, serves orders.

Signing here is written anew from the Standard Webhooks specification, so that a mistake of the program's own can't
cancel itself out.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.waiting import eventually, pause

SECRET = "whsec_" + base64.b64encode(b"a marketplace's secret, 32 bytes").decode()

NO_ANSWER = None
"""What `post` returns when no answer came: the marketplace then doesn't know and posts again."""


def signature(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` of a body under one secret."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def signed_headers(
    body: bytes, webhook_id: str, *, secret: str = SECRET, at: float | None = None
) -> dict[str, str]:
    """Return the headers of a webhook that is sent now, or `at` seconds since 1970."""
    timestamp = int(time.time() if at is None else at)  # noqa: TID251 - the program under test checks it by its clock
    return {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secret, webhook_id, timestamp, body),
    }


def message_body(
    text: str | None,
    *,
    message_id: str,
    conversation_id: str,
    buyer_id: str | None = None,
    content: Mapping[str, Any] | None = None,
    **fields: Any,
) -> bytes:
    """Return a buyer's message as the generic channel has it; `content` instead of a text, `fields` beside it."""
    data = {
        "message_id": message_id,
        "conversation_id": conversation_id,
        "buyer": {"id": buyer_id or f"buyer of {conversation_id}"},
        "content": dict(content) if content is not None else {"type": "text", "text": text},
        **fields,
    }
    return event_body("message.created", data)


def event_body(kind: str, data: Mapping[str, Any]) -> bytes:
    """Return an event of any type."""
    document = {"type": kind, "timestamp": "2026-11-21T08:00:00Z", "data": data}
    return json.dumps(document, ensure_ascii=False).encode()


@dataclass(frozen=True, slots=True)
class Fault:
    """How a reply is answered other than by 200. `accepts`: the reply counts as taken all the same."""

    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    accepts: bool = False
    cuts: bool = False
    """The connection is cut instead of an answer."""
    until: asyncio.Event | None = None
    """The answer waits for this."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as it arrived: `key` is the webhook-id, `number` counts the arrivals of one marketplace."""

    key: str
    account: str
    conversation_id: str
    message_id: str
    answers: tuple[str, ...]
    author: str
    text: str
    body: bytes
    taken: bool
    number: int
    at: float
    """Seconds of the monotonic clock."""


Judge = Callable[[Reply], Fault | None]


class Marketplace:
    """One marketplace with any number of accounts. As a context manager it listens from entry to exit."""

    def __init__(self, *, secret: str = SECRET) -> None:
        self.secret = secret
        self.replies: list[Reply] = []
        """Every reply that arrived, taken or not, in order."""
        self.judge: Judge = lambda reply: None
        """Decides about each reply before it is answered."""
        self.orders: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """Orders by buyer, newest first."""
        self.order_requests = 0
        self.bad_signatures = 0
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        # Until it listens, an address that nobody ever answers at.
        self.port = 9
        """Where it listens."""
        self.reached_at: int | None = None
        """The port under which Huoji reaches it, where something stands between them."""

    async def __aenter__(self) -> Marketplace:
        application = web.Application(client_max_size=4 * 1024 * 1024)
        application.router.add_post("/callback/{account}", self._take)
        application.router.add_get("/orders", self._list_orders)
        application.router.add_get("/orders/{order_id}", self._one_order)
        # Two accounts may be told apart by their hosts' ports, never by anything in here.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=30),
            connector=aiohttp.TCPConnector(limit=0, force_close=False),
        )
        return self

    async def __aexit__(self, *unused: object) -> None:
        assert self._session is not None
        assert self._runner is not None
        await self._session.close()
        await self._runner.cleanup()

    def account_settings(self, account: str = "shop-1", **more: str) -> dict[str, str]:
        """Return the settings under which Huoji reaches this marketplace."""
        port = self.reached_at or self.port
        return {
            "secret": self.secret,
            "callback_url": f"http://127.0.0.1:{port}/callback/{account}",
            "orders_url": f"http://127.0.0.1:{port}/orders",
            "orders_token": "orders-token",
            **more,
        }

    # --- posting ---

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        account: str = "shop-1",
        webhook_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int | None:
        """Post one webhook to the program at `url`; return its status, or None when no answer came."""
        answer = await self.exchange(url, body, account=account, webhook_id=webhook_id, headers=headers)
        return None if answer is None else answer[0]

    async def exchange(
        self,
        url: str,
        body: bytes,
        *,
        account: str = "shop-1",
        webhook_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes] | None:
        """The same, returning status, headers and body."""
        assert self._session is not None
        if headers is None:
            headers = signed_headers(body, webhook_id or f"wh-{next(self._numbers)}", secret=self.secret)
        try:
            async with self._session.post(
                f"{url}/webhooks/generic/{account}",
                data=io.BytesIO(body),
                headers=headers,
                skip_auto_headers=("Content-Type",),
            ) as response:
                return response.status, response.headers, await response.read()
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return NO_ANSWER

    async def say(
        self,
        url: str,
        text: str | None,
        *,
        message_id: str,
        conversation_id: str,
        account: str = "shop-1",
        **fields: Any,
    ) -> int | None:
        """Post a buyer's message; return the status."""
        body = message_body(text, message_id=message_id, conversation_id=conversation_id, **fields)
        return await self.post(url, body, account=account)

    async def say_until_acked(
        self, url: str, text: str, *, stop: Callable[[], bool] = lambda: False, **ids: Any
    ) -> bool:
        """Post a message again and again until it is acked, as platforms do; False when `stop` came first."""
        while not stop():
            if await self.say(url, text, **ids) == 200:
                return True
            await pause(0.05)
        return False

    # --- what arrived ---

    @property
    def taken(self) -> list[Reply]:
        """The replies that this marketplace took, in order, repeats included."""
        return [reply for reply in self.replies if reply.taken]

    def delivered(self, conversation_id: str | None = None) -> list[Reply]:
        """What buyers saw: each reply once, where it was taken first."""
        first: dict[str, Reply] = {}
        for reply in self.taken:
            if conversation_id in (None, reply.conversation_id):
                first.setdefault(reply.key, reply)
        return list(first.values())

    def texts(self, conversation_id: str) -> list[str]:
        """The texts that the buyer of a conversation saw, in order."""
        return [reply.text for reply in self.delivered(conversation_id)]

    def keys_by_answered(self) -> Mapping[str, set[str]]:
        """The keys of the replies that answer each message; more than one would be a doubled answer."""
        found: dict[str, set[str]] = defaultdict(set)
        for reply in self.replies:
            for message_id in reply.answers:
                found[message_id].add(reply.key)
        return found

    async def wait_for(
        self, number: int, *, conversation_id: str | None = None, timeout: float = 10.0
    ) -> list[Reply]:
        """Wait until so many different replies were taken, and return them."""
        await eventually(
            lambda: len(self.delivered(conversation_id)) >= number, timeout=timeout, what=f"{number} replies"
        )
        return self.delivered(conversation_id)

    # --- serving ---

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = request.headers
        key, timestamp = headers["webhook-id"], int(headers["webhook-timestamp"])
        expected = signature(self.secret, key, timestamp, body)
        if expected not in headers["webhook-signature"].split(" "):
            self.bad_signatures += 1
            return web.Response(status=401)
        document = json.loads(body)
        data = document["data"]
        reply = Reply(
            key=key,
            account=request.match_info["account"],
            conversation_id=data["conversation_id"],
            message_id=data["message_id"],
            answers=tuple(data["answers"] or ()),
            author=data["author"],
            text=data["content"].get("text", ""),
            body=body,
            taken=True,
            number=len(self.replies),
            at=time.monotonic(),
        )
        fault = self.judge(reply)
        if fault is None:
            self.replies.append(reply)
            return web.json_response({})
        self.replies.append(
            Reply(**{**{name: getattr(reply, name) for name in Reply.__slots__}, "taken": fault.accepts})
        )
        if fault.until is not None:
            await fault.until.wait()
        if fault.cuts:
            transport = request.transport
            if transport is not None:
                transport.abort()
        return web.Response(status=fault.status, headers=fault.headers)

    async def _list_orders(self, request: web.Request) -> web.StreamResponse:
        self.order_requests += 1
        return web.json_response({"items": self.orders.get(request.query["buyer_id"], [])})

    async def _one_order(self, request: web.Request) -> web.StreamResponse:
        self.order_requests += 1
        wanted = request.match_info["order_id"]
        for order in self.orders.get(request.query["buyer_id"], []):
            if order["order_id"] == wanted:
                return web.json_response(order)
        return web.Response(status=404)


def failing(share_of_503: float, share_of_cuts: float, seed: int) -> Judge:
    """Return a judge that fails some replies with 503 and cuts some off after taking them, the same in every run."""

    def judge(reply: Reply) -> Fault | None:
        digest = hashlib.blake2b(f"{seed} {reply.key} {reply.number}".encode(), digest_size=4).digest()
        fraction = int.from_bytes(digest) / 2**32
        if fraction < share_of_503:
            return Fault(503)
        if fraction < share_of_503 + share_of_cuts:
            return Fault(accepts=True, cuts=True)
        return None

    return judge


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Cut a sequence into pieces."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def order(order_id: str, *, buyer_id: str, **values: Any) -> dict[str, Any]:
    """Return an order that has been shipped; `values` change it."""
    return {
        "order_id": order_id,
        "buyer_id": buyer_id,
        "platform": "generic",
        "status": "shipped",
        "status_text": "已发货",
        "created_at": "2026-11-19T02:00:00Z",
        "paid_at": "2026-11-19T02:01:00Z",
        "shipped_at": "2026-11-20T02:00:00Z",
        "total": "99.00",
        "currency": "CNY",
        "items": [{"product_id": "P-1", "title": "羊毛围巾", "sku": "灰色", "quantity": 1, "price": "99.00"}],
        "receiver": {"name": "王小明", "phone": "13800001234", "address": "上海市浦东新区"},
        "shipments": [
            {
                "carrier": "顺丰速运",
                "tracking_no": "SF1234567890",
                "status": "in_transit",
                "latest": "快件已到达上海转运中心",
                "latest_at": "2026-11-21T02:00:00Z",
            }
        ],
        "refunds": [],
        **values,
    }
