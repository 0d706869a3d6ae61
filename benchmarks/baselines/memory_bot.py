"""The bot that a skilled developer writes in a day, tuned: FastAPI, rapidfuzz, aiohttp, all in memory.

Verify, deduplicate in an LRU dict, acknowledge, then in a background task per message: match the
normalised text among all variants by rapidfuzz's ``ratio``, and post the signed reply through one
keep-alive client. Messages of one conversation are answered one after the other. A crash loses
everything that was acknowledged and not answered yet; nothing else about it is careless.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import time
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from fastapi import FastAPI, Request, Response
from rapidfuzz import fuzz, process

from benchmarks.baselines.serving import parser, serve
from benchmarks.signing import decode_secret, sign, verify

REMEMBERED_IDS = 100_000
"""How many message ids are remembered against duplicates."""
CACHED_TEXTS = 4_096
"""How many matched texts are remembered; shops hear the same question again and again."""
LOWEST_RATIO = 55.0
"""Below this ``ratio`` (0–100) the bot says that it did not understand."""
ATTEMPTS = 3
"""How often one reply is tried."""
NOT_UNDERSTOOD = "亲，抱歉没有理解您的问题，请您换个说法试试。"
_DROPPED = str.maketrans("", "", " \t\r\n,.!?~，。！？～、：:；;…呀呢啊哦哈亲")


def normalise(text: str) -> str:
    """Fold width and case, drop punctuation and particles."""
    return unicodedata.normalize("NFKC", text).lower().translate(_DROPPED)


class Matcher:
    """The best variant of all by one C loop over them."""

    def __init__(self, variants: list[tuple[str, str]]) -> None:
        """Take (variant, answer) pairs."""
        self._texts = [normalise(variant) for variant, _ in variants]
        self._answers = [answer for _, answer in variants]
        self._cached = functools.lru_cache(CACHED_TEXTS)(self._scan)

    def answer(self, text: str) -> str:
        """Return the answer of the variant nearest to ``text``."""
        return self._cached(normalise(text))

    def _scan(self, text: str) -> str:
        found = process.extractOne(text, self._texts, scorer=fuzz.ratio, score_cutoff=LOWEST_RATIO)
        return NOT_UNDERSTOOD if found is None else self._answers[found[2]]


@dataclass(slots=True)
class Lane:
    """One conversation's turn-taking: a lock, and how many messages use it."""

    lock: asyncio.Lock
    users: int = 0


class Bot:
    """State of the running bot; everything is lost with the process."""

    def __init__(self, key: bytes, callback: str, matcher: Matcher) -> None:
        self.key = key
        self._callback = callback
        self._matcher = matcher
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lanes: dict[str, Lane] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def running(self, _app: FastAPI) -> AsyncIterator[None]:
        """Hold the HTTP client open while the server runs."""
        connector = aiohttp.TCPConnector(limit=100, keepalive_timeout=60)
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as client:
            self._client = client
            yield
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5)

    def take(self, data: dict[str, Any]) -> None:
        """Accept one message unless it was seen before; the answer follows in the background."""
        message_id = data["message_id"]
        if message_id in self._seen:
            return
        self._seen[message_id] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        task = asyncio.create_task(self._reply(message_id, data["conversation_id"], data["content"]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reply(self, message_id: str, conversation_id: str, content: dict[str, Any]) -> None:
        lane = self._lanes.get(conversation_id)
        if lane is None:
            lane = self._lanes[conversation_id] = Lane(asyncio.Lock())
        lane.users += 1
        try:
            async with lane.lock:
                answer = (
                    self._matcher.answer(content["text"]) if content["type"] == "text" else NOT_UNDERSTOOD
                )
                await self._send(message_id, conversation_id, answer)
        finally:
            lane.users -= 1
            if not lane.users:
                self._lanes.pop(conversation_id, None)

    async def _send(self, message_id: str, conversation_id: str, answer: str) -> None:
        own_id = f"r-{next(self._numbers)}"
        body = orjson.dumps(
            {
                "type": "message.send",
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "data": {
                    "message_id": own_id,
                    "conversation_id": conversation_id,
                    "in_reply_to": message_id,
                    "answers": [message_id],
                    "author": "bot",
                    "content": {"type": "text", "text": answer},
                },
            }
        )
        if self._client is None:
            raise RuntimeError("the bot is not running")
        for attempt in range(ATTEMPTS):
            stamp = str(int(time.time()))
            headers = {
                "content-type": "application/json",
                "webhook-id": own_id,
                "webhook-timestamp": stamp,
                "webhook-signature": sign(self.key, own_id.encode(), stamp.encode(), body).decode(),
            }
            try:
                async with self._client.post(self._callback, data=body, headers=headers) as response:
                    if response.status < 300:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.2 * 2**attempt)


def build(bot: Bot) -> FastAPI:
    """Return the application around ``bot``."""
    app = FastAPI(openapi_url=None, lifespan=bot.running)

    @app.post("/webhooks/{channel}/{account_id}")
    async def webhook(channel: str, account_id: str, request: Request) -> Response:
        body = await request.body()
        if not verify(bot.key, request.headers.raw, body):
            return Response(status_code=401)
        event = orjson.loads(body)
        if event["type"] == "message.created":
            bot.take(event["data"])
        return Response(b"{}", media_type="application/json")

    return app


def main() -> None:
    """Serve until told to stop."""
    made = parser("The in-memory bot: FastAPI, rapidfuzz, aiohttp.")
    made.add_argument("--variants", type=Path, required=True, help="JSON list of [variant, answer]")
    made.add_argument("--callback", required=True, help="where replies are posted")
    arguments = made.parse_args()
    variants = [(variant, answer) for variant, answer in json.loads(arguments.variants.read_text("utf-8"))]
    serve(build(Bot(decode_secret(arguments.secret), arguments.callback, Matcher(variants))), arguments.port)


if __name__ == "__main__":
    main()
