"""The sandbox over HTTP, mounted at ``/sandbox``: the page and its API, and what shops' servers call.

It exists in ``huoji demo`` only, on loopback, without a login: a page session's id is the key to that session alone.
Other sites can't reach it through a visitor's browser: writes want JSON or a picture from this very origin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

import orjson
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.core.errors import HuojiError, InvalidError, TooLargeError
from app.domain.knowledge import Snapshot
from app.domain.shops import ShopPolicy
from app.intents.fusion import shipped_thresholds
from app.reports.journey import Journey, journey_of
from app.sandbox.chats import PageSession
from app.sandbox.journeys import joined_journey
from app.sandbox.market import Market
from app.sandbox.order_service import Answer
from app.sandbox.pages import PageFrame, read_said, read_seat, read_troubles, world_wire
from app.sandbox.streams import event_stream
from app.storage.database import Database

__all__ = ["create_sandbox"]

MAX_JSON = 64 * 1024
MAX_IMAGE = 2 * 1024 * 1024
MAX_REPLY = 1024 * 1024
"""Bytes of a body: of the page's own requests, of a picture, of a shop's message."""

_SIGNATURES: Mapping[bytes, str] = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
"""How pictures that any browser shows begin; nothing else is kept."""

Endpoint = Callable[[Request], Awaitable[Response]]


class _Sandbox:
    """The endpoints."""

    def __init__(
        self,
        *,
        market: Market,
        database: Database,
        snapshot: Callable[[], Snapshot],
        shop: Callable[[str], ShopPolicy],
        frame: PageFrame,
        folder: Path,
    ) -> None:
        self._market = market
        self._database = database
        self._snapshot = snapshot
        self._shop = shop
        self._frame = frame
        self._folder = folder

    # --- the page ---

    async def page(self, request: Request) -> Response:
        return FileResponse(self._folder / "index.html", media_type="text/html; charset=utf-8")

    async def agents(self, request: Request) -> Response:
        return FileResponse(self._folder / "agents.html", media_type="text/html; charset=utf-8")

    async def begin(self, request: Request) -> Response:
        fields = await _read_json(request)
        before = fields.get("instead_of")
        session = self._market.sessions.begin(instead_of=before if isinstance(before, str) else None)
        return _json(world_wire(self._market, session, self._frame), 201)

    async def world(self, request: Request) -> Response:
        return _json(world_wire(self._market, self._session(request), self._frame))

    async def troubles(self, request: Request) -> Response:
        session = self._session(request)
        self._market.set_troubles(session, read_troubles(await _read_json(request)))
        return _json(session.troubles.to_wire())

    async def say(self, request: Request) -> Response:
        session = self._session(request)
        said = read_said(self._market, await _read_json(request))
        message = self._market.say(session, **said)
        return _json(message.to_wire(), 201)

    async def order(self, request: Request) -> Response:
        session = self._session(request)
        fields = await _read_json(request)
        account_id, buyer = read_seat(self._market, fields)
        return _json(self._market.place_order(session, account_id, buyer), 201)

    async def upload(self, request: Request) -> Response:
        session = self._session(request)
        data = await _read(request, MAX_IMAGE)
        media_type = next((kind for begin, kind in _SIGNATURES.items() if data.startswith(begin)), None)
        if media_type is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            media_type = "image/webp"
        if media_type is None:
            raise InvalidError("send a PNG, JPEG, GIF or WebP picture", code="image_unknown")
        return _json({"url": self._market.add_image(session, media_type, data)}, 201)

    async def image(self, request: Request) -> Response:
        session = self._session(request)
        image = session.images.get(request.path_params["name"])
        if image is None:
            return _json({"code": "image_unknown"}, 404)
        return Response(image.data, media_type=image.media_type)

    async def events(self, request: Request) -> Response:
        session = self._session(request)
        asked = request.headers.get("last-event-id") or request.query_params.get("after") or ""
        after = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 12 else 0
        stream: AsyncIterator[bytes] = event_stream(session.events, after)
        return StreamingResponse(stream, media_type="text/event-stream")

    async def journey(self, request: Request) -> Response:
        session = self._session(request)
        chat, message = self._market.find_message(session, request.path_params["message_id"])
        entries = self._snapshot().by_id

        def title(entry_id: str) -> str | None:
            entry = entries.get(entry_id)
            return None if entry is None else entry.question

        def read(connection: Connection) -> Journey | None:
            return journey_of(
                connection,
                account_id=chat.account_id,
                external_message_id=message.id,
                entry_title=title,
            )

        journey = await self._database.read(read)
        answer_at = self._shop(self._market.shops[chat.account_id].id).answer_at
        if answer_at is None:
            answer_at = shipped_thresholds().answer_at
        return _json(joined_journey(journey, message, answer_at=answer_at))

    # --- what shops' servers call ---

    async def callback(self, request: Request) -> Response:
        body = await _read(request, MAX_REPLY)
        headers = {name.lower(): value for name, value in request.headers.items()}
        return _answer(await self._market.take_reply(request.path_params["account_id"], headers, body))

    async def orders(self, request: Request) -> Response:
        answer = self._market.answer_orders(
            request.path_params["account_id"],
            authorization=request.headers.get("authorization", ""),
            buyer_name=request.query_params.get("buyer_id", ""),
            order_id=request.path_params.get("order_id"),
        )
        return _answer(answer)

    # --- inside ---

    def _session(self, request: Request) -> PageSession:
        return self._market.sessions.get(request.path_params["session_id"])


def create_sandbox(
    *,
    market: Market,
    database: Database,
    snapshot: Callable[[], Snapshot],
    shop: Callable[[str], ShopPolicy],
    agents_url: str | None = None,
    docs_url: str = "agents",
) -> Starlette:
    """Return the application to mount at ``/sandbox``.

    Args:
        market: the marketplace.
        database: where journeys are read.
        snapshot: the knowledge in service now, for the titles of entries.
        shop: a shop's policy by its id, for its thresholds.
        agents_url: the agents' console, when there is one.
        docs_url: how agents answer without a console; the sandbox brings a page about it.
    """
    static = Path(__file__).resolve().parent / "static"
    frame = PageFrame(agents_url=agents_url, docs_url=docs_url)
    box = _Sandbox(market=market, database=database, snapshot=snapshot, shop=shop, frame=frame, folder=static)
    one = "/api/sessions/{session_id}"
    routes = [
        Route("/", box.page),
        Route("/agents", box.agents),
        Route("/api/sessions", box.begin, methods=["POST"]),
        Route(one, box.world),
        Route(f"{one}/troubles", box.troubles, methods=["PUT"]),
        Route(f"{one}/messages", box.say, methods=["POST"]),
        Route(f"{one}/messages/{{message_id}}/journey", box.journey),
        Route(f"{one}/orders", box.order, methods=["POST"]),
        Route(f"{one}/images", box.upload, methods=["POST"]),
        Route(f"{one}/events", box.events),
        Route("/images/{session_id}/{name}", box.image),
        Route("/callback/{account_id}", box.callback, methods=["POST"]),
        Route("/orders/{account_id}", box.orders),
        Route("/orders/{account_id}/{order_id}", box.orders),
        Mount("/static", StaticFiles(directory=static)),
    ]
    app = Starlette(routes=routes, exception_handlers={HuojiError: _problem})
    app.add_middleware(_Guarded)
    return app


_HEADERS = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
    (b"cross-origin-opener-policy", b"same-origin"),
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class _Guarded:
    """Refuses what another site's page asks for, and adds the headers that keep this page to itself."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in _HEADERS if header[0] not in known),
                ]
            await send(message)

        if scope["type"] == "http":
            headers = dict(cast("list[tuple[bytes, bytes]]", scope["headers"]))
            if headers.get(b"sec-fetch-site", b"none") == b"cross-site" and scope["method"] != "GET":
                await _json({"code": "origin_foreign"}, 403)(scope, receive, send_guarded)
                return
        await self._app(scope, receive, send_guarded)


async def _problem(request: Request, error: Exception) -> Response:
    known = cast("HuojiError", error)
    document = {
        "type": "about:blank",
        "title": known.code,
        "status": known.status,
        "code": known.code,
        "detail": known.message,
    }
    return _json(document, known.status, media_type="application/problem+json")


async def _read(request: Request, most: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise TooLargeError(f"the body is larger than {most} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _read_json(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise InvalidError("send JSON", code="json_wanted")
    try:
        document = orjson.loads(await _read(request, MAX_JSON) or b"{}")
    except orjson.JSONDecodeError:
        raise InvalidError("the body is no JSON", code="json_wanted") from None
    if not isinstance(document, dict):
        raise InvalidError("the body must be a JSON object", code="json_wanted")
    return cast("dict[str, Any]", document)


def _answer(answer: Answer) -> Response:
    return _json(answer.document, answer.status, headers=answer.headers)


def _json(
    document: Mapping[str, Any],
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Response:
    return Response(orjson.dumps(document), status, headers=headers, media_type=media_type)
