"""Bad webhooks at the real program's door: each gets its answer, costs no more than its size, and harms nobody.

Source: the bad inputs, by the numbers in the tests' ids; the contracts, section 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator, Generator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import uvicorn

from app.api.webhooks import WebhookEdge
from app.storage.tables import conversations, inbox, messages
from tests.chaos.load import COMPLAINT
from tests.huoji_process import HuojiProcess
from tests.installation import environment, install, read_rows
from tests.marketplace import SECRET, Marketplace, event_body, message_body, signature, signed_headers
from tests.running import Callback, Running
from tests.waiting import eventually

QUESTION = "什么时候发货"
GOOD = message_body(QUESTION, message_id="m-good", conversation_id="c-good")
MAX_BODY = 1024 * 1024

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Door:
    """The program's webhook address, with counting of what was stored behind it."""

    def __init__(self, process: HuojiProcess, market: Marketplace) -> None:
        self.process = process
        self.market = market
        self._number = 0

    def name(self) -> str:
        """A name nobody had before."""
        self._number += 1
        return f"n-{self._number}"

    async def post(
        self, body: bytes, headers: Mapping[str, str] | None = None, **more: Any
    ) -> tuple[int, dict[str, Any]]:
        """Post a body, signed unless headers are given; return status and answer."""
        if headers is None:
            headers = signed_headers(body, self.name())
        answer = await self.market.exchange(self.process.url, body, headers=headers, **more)
        assert answer is not None
        return answer[0], json.loads(answer[2] or b"{}")

    async def raw(self, request: bytes, *more: bytes) -> bytes:
        """Send bytes as they are; return all that comes back until the connection ends."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.process.port)
        try:
            with contextlib.suppress(ConnectionError):
                for part in (request, *more):
                    writer.write(part)
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                return await asyncio.wait_for(reader.read(), 15)
            return b""
        finally:
            writer.close()

    async def stored(self) -> list[Mapping[str, Any]]:
        """Every inbox row."""
        return await read_rows(self.process.environment["HUOJI_DATABASE_URL"], inbox)

    async def still_answers(self) -> None:
        """An ordinary buyer is served as ever."""
        name = self.name()
        status, _ = await self.post(message_body(QUESTION, message_id=name, conversation_id=name))
        assert status == 200
        await self.market.wait_for(1, conversation_id=name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    """One program for all of these: whatever came before must not matter."""
    folder = tmp_path_factory.mktemp("door")
    url = f"sqlite:///{folder / 'huoji.db'}"
    async with Marketplace() as market:
        await install(url, folder, market)
        process = HuojiProcess(folder, environment=environment(url))
        try:
            await asyncio.to_thread(process.start)
            yield Door(process, market)
            assert process.running
            assert '"level":"error"' not in process.log, process.log[-4000:]
        finally:
            process.kill()


def headers_with(**changes: str | None) -> dict[str, str]:
    """Good headers of the good body, some of them changed or (None) missing."""
    headers = signed_headers(GOOD, "wh-good")
    for name, value in changes.items():
        header = f"webhook-{name}"
        if value is None:
            del headers[header]
        else:
            headers[header] = value
    return headers


def timestamped(value: str) -> dict[str, str]:
    """Headers whose signature is right for a timestamp that isn't."""
    import base64
    import hashlib
    import hmac

    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, f"wh-good.{value}.".encode() + GOOD, hashlib.sha256).digest()
    return headers_with(timestamp=value, signature="v1," + base64.b64encode(digest).decode())


def shifted(seconds: float) -> dict[str, str]:
    """Headers signed at another time than now."""
    now = int(signed_headers(GOOD, "x")["webhook-timestamp"])
    return signed_headers(GOOD, "wh-good", at=now + seconds)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        pytest.param(lambda: headers_with(signature=None), "signature_missing", id="B1"),
        pytest.param(lambda: headers_with(id=None), "signature_missing", id="B1 id"),
        pytest.param(lambda: signed_headers(GOOD + b" ", "wh-good"), "signature_invalid", id="B2"),
        pytest.param(lambda: headers_with(signature="v1,%%%"), "signature_invalid", id="B3 base64"),
        pytest.param(lambda: headers_with(signature="v1,AAAA"), "signature_invalid", id="B3 length"),
        pytest.param(lambda: headers_with(signature="v1,签名"), "signature_invalid", id="B3 ascii"),
        pytest.param(
            lambda: headers_with(signature="v1a,AAAA v2,BBBB"), "signature_version_unsupported", id="B4"
        ),
        pytest.param(
            lambda: headers_with(signature=" ".join(["v1,AAAA"] * 400)), "signature_invalid", id="B6"
        ),
        pytest.param(lambda: headers_with(timestamp=None), "timestamp_invalid", id="B7 missing"),
        pytest.param(lambda: timestamped("abc"), "timestamp_invalid", id="B7 word"),
        pytest.param(lambda: timestamped("1e400"), "timestamp_invalid", id="B7 huge"),
        pytest.param(lambda: timestamped("-5"), "timestamp_invalid", id="B7 negative"),
        pytest.param(
            lambda: timestamped(headers_with()["webhook-timestamp"] + "000"), "timestamp_invalid", id="B7 ms"
        ),
        pytest.param(lambda: shifted(-360), "timestamp_outside_tolerance", id="B8 old"),
        pytest.param(lambda: shifted(360), "timestamp_outside_tolerance", id="B8 ahead"),
        pytest.param(
            lambda: signed_headers(json.dumps(json.loads(GOOD)).encode(), "wh-good"),
            "signature_invalid",
            id="B9",
        ),
    ],
)
async def test_what_is_not_signed_rightly_is_401_and_not_stored(door: Door, headers: Any, code: str) -> None:
    before = len(await door.stored())
    status, problem = await door.post(GOOD, headers())
    assert (status, problem["code"], problem["status"]) == (401, code, 401)
    assert "server_time" in problem
    assert len(await door.stored()) == before


async def test_the_last_of_five_signatures_may_be_the_right_one(door: Door) -> None:
    # B5
    name = door.name()
    body = message_body(QUESTION, message_id=name, conversation_id=name)
    headers = signed_headers(body, name)
    timestamp = int(headers["webhook-timestamp"])
    wrong = [signature("whsec_" + "QUFB" * 8, f"{n}", timestamp, body) for n in range(4)]
    headers["webhook-signature"] = " ".join([*wrong, headers["webhook-signature"]])
    assert (await door.post(body, headers))[0] == 200


async def test_an_endless_header_is_refused_before_anything_is_read(door: Door) -> None:
    # B6
    signatures = " ".join(["v1,AAAA"] * 20_000)
    answer = await door.raw(
        f"POST /webhooks/generic/shop-1 HTTP/1.1\r\nHost: x\r\nwebhook-signature: {signatures}\r\n".encode(),
        b"Content-Length: 2\r\nConnection: close\r\n\r\n{}",
    )
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"401", b"431")
    await door.still_answers()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", None, id="B15"),
        pytest.param(b"<xml/>", None, id="B16"),
        pytest.param(QUESTION.encode("utf-16"), None, id="B17"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, None, id="B20"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, None, id="B20 objects"),
        pytest.param(b'{"type": "message.created", "data": {"message_id": 1e999}}', None, id="B19"),
        pytest.param(b'{"type": "message.created", "data": {"n": NaN}}', None, id="B19 NaN"),
        pytest.param(b'{"type": "message.created", "data": {"n": 1' + b"0" * 400 + b"}}", None, id="B19 int"),
        pytest.param(
            GOOD.replace(b'"message_id": "m-good"', b'"message_id": "m-good", "message_id": "m-other"'),
            None,
            id="B21",
        ),
        pytest.param(event_body("message.created", {}), "message_id_missing", id="fields"),
        pytest.param(b"[]", "not_an_object", id="no object"),
    ],
)
async def test_what_is_signed_but_senseless_is_acked_and_kept_with_a_reason(
    door: Door, body: bytes, reason: str | None
) -> None:
    name = door.name()
    began = time.monotonic()
    status, _ = await door.post(body, signed_headers(body, name))
    assert status == 200
    assert time.monotonic() - began < 2
    (row,) = [row for row in await door.stored() if row["dedupe_key"] == f"w:{name}"]
    assert row["state"] == "rejected"
    assert row["reason"]
    if reason is not None:
        assert row["reason"] == reason
    assert bytes(row["body"]) == body


@pytest.mark.parametrize("webhook_id", ["x" * 10_000, "a\u0085b"], ids=["B10 long", "B10 control"])
async def test_a_senseless_webhook_id_is_acked_and_kept(door: Door, webhook_id: str) -> None:
    name = door.name()
    body = message_body(QUESTION, message_id=name, conversation_id=name)
    before = len(await door.stored())
    headers = signed_headers(body, webhook_id)
    status, _ = await door.post(body, headers)
    if status == 401:
        # A client may write such a name in other bytes than it signed.
        assert not webhook_id.isascii()
        return
    assert status == 200
    (row,) = (await door.stored())[before:]
    assert row["state"] == "rejected"


@pytest.mark.parametrize("kind", ["message.send", "message.send.done", "refund.requested", "read"], ids=str)
async def test_types_that_do_not_concern_us_are_acked_and_ignored(door: Door, kind: str) -> None:
    # B38, B39
    body = event_body(kind, {"conversation_id": "c-1"})
    name = door.name()
    assert (await door.post(body, signed_headers(body, name)))[0] == 200
    (row,) = [row for row in await door.stored() if row["dedupe_key"] == f"w:{name}"]
    assert row["state"] == "ignored"


async def test_a_body_beyond_the_limit_is_413_whether_it_says_so_or_not(door: Door) -> None:
    # B22
    body = GOOD + b" " * MAX_BODY
    status, problem = await door.post(body)
    assert (status, problem["code"]) == (413, "too_large")
    fits = message_body("长" * 1000, message_id="m-fits", conversation_id="c-fits")
    fits += b" " * (MAX_BODY - len(fits))
    assert (await door.post(fits))[0] == 200

    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = await door.raw(
        b"POST /webhooks/generic/shop-1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[chunk] * 40,
        b"0\r\n\r\n",
    )
    assert answer.split(b" ")[1] == b"413"
    endless = await door.raw(
        b"POST /webhooks/generic/shop-1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[chunk] * 400,
    )
    # It may cut the line while we still write; what it must not do is take it all.
    assert endless == b"" or endless.split(b" ")[1] == b"413"
    await door.still_answers()


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: abc",
        b"Content-Length: -1",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 99999999999999999999999999",
    ],
    ids=lambda value: value.decode(),
)
async def test_lying_about_the_length_is_refused_and_the_line_closed(door: Door, headers: bytes) -> None:
    # B23
    before = len(await door.stored())
    answer = await door.raw(
        b"POST /webhooks/generic/shop-1 HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n\r\nhello", b"\r\n"
    )
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"401", b"413")
    assert len(await door.stored()) == before
    await door.still_answers()


async def test_a_body_shorter_than_it_says_is_nothing(door: Door) -> None:
    # B23
    before = len(await door.stored())
    _, writer = await asyncio.open_connection("127.0.0.1", door.process.port)
    head = "".join(f"{name}: {value}\r\n" for name, value in signed_headers(GOOD, "wh-short").items())
    writer.write(
        f"POST /webhooks/generic/shop-1 HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(GOOD)}\r\n\r\n".encode()
        + GOOD[:-5]
    )
    await writer.drain()
    writer.close()
    await door.still_answers()
    assert len(await door.stored()) == before + 1


async def test_a_packed_body_is_415_and_never_unpacked(door: Door) -> None:
    # B24
    bomb = gzip.compress(b" " * 10_000_000)
    headers = {**signed_headers(bomb, door.name()), "content-encoding": "gzip"}
    status, problem = await door.post(bomb, headers)
    assert (status, problem["code"]) == (415, "encoding_unsupported")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "a;b;c", ""])
async def test_the_content_type_does_not_matter(door: Door, content_type: str) -> None:
    # B25
    name = door.name()
    body = message_body(QUESTION, message_id=name, conversation_id=name)
    assert (await door.post(body, {**signed_headers(body, name), "content-type": content_type}))[0] == 200
    await door.market.wait_for(1, conversation_id=name)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_405_and_told_which_is_right(door: Door, method: str) -> None:
    # B26; the generic channel knows no handshake by GET.
    answer = await door.raw(
        f"{method} /webhooks/generic/shop-1?challenge=<script> HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"405"
    assert b"allow: post" in head.lower()
    assert b"<script>" not in body


@pytest.mark.parametrize(
    "path",
    ["generic/nobody", "nowhere/shop-1", "generic/", "generic", "", "generic/shop-1/more", "generic/..%2f"],
)
async def test_an_unknown_address_is_404(door: Door, path: str) -> None:
    # B13
    head = "".join(f"{name}: {value}\r\n" for name, value in signed_headers(GOOD, "wh-good").items())
    answer = await door.raw(
        f"POST /webhooks/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}"
        f"Content-Length: {len(GOOD)}\r\n\r\n".encode()
        + GOOD
    )
    assert answer.split(b" ")[1] == b"404"
    assert b"channel_unknown" in answer


@pytest.mark.parametrize(
    "text",
    [
        "{{7*7}} {{ order.order_id }} {% for a in b %}",
        "${x} %s %n {0.__class__}",
        "'; DROP TABLE messages; --",
        "<script>alert(1)</script><img onerror=x>",
        "\u202e反向 \u200b\u200d\u2060",
        "z̷̢̡̛̛͎͉͙͓" * 50,
        "a\x00b 什么时候发货",
        "\ud800 什么时候发货",
        "😀" * 500,
        "",
        "   \u3000 ",
        "什么时候发货" * 16_000,
        "１２３４５６７８９０" * 10,
    ],
    ids=[
        "B33",
        "B33 format",
        "B34",
        "B32",
        "B31",
        "B31 marks",
        "B30",
        "B18",
        "B28 emoji",
        "B28",
        "B28 blank",
        "B29",
        "digits",
    ],
)
async def test_any_text_is_a_message_and_is_never_run(door: Door, text: str) -> None:
    name = door.name()
    document = {
        "type": "message.created",
        "timestamp": "2026-11-21T08:00:00Z",
        "data": {
            "message_id": name,
            "conversation_id": name,
            "buyer": {"id": name, "nickname": text[:300]},
            "content": {"type": "text", "text": text},
        },
    }
    body = json.dumps(document).encode()
    assert (await door.post(body, signed_headers(body, name)))[0] == 200
    url = door.process.environment["HUOJI_DATABASE_URL"]

    async def done() -> str | None:
        for row in await door.stored():
            if row["dedupe_key"] == f"m:{name}" and row["state"] != "open":
                return row["state"]
        return None

    assert await eventually(done, timeout=20) == "done"
    (conversation,) = await read_rows(url, conversations, conversations.c.external_id == name)
    rows = await read_rows(url, messages, messages.c.conversation_id == conversation["id"])
    out = [row for row in rows if row["direction"] == "out"]
    (stored,) = [row for row in rows if row["direction"] == "in"]
    assert stored["decision_id"] is not None
    assert not any("49" in row["content"] or "alert(" in row["content"] for row in out)


@pytest.mark.parametrize(
    "content",
    [
        {"type": "image", "url": "http://169.254.169.254/latest"},
        {"type": "image", "url": "file:///etc/passwd"},
        {"type": "video", "url": 7},
        {"type": "voice"},
        {"type": "order_card", "order_id": {"a": 1}},
        {"type": "hologram", "raw": [1]},
        {"type": ["text"]},
    ],
    ids=str,
)
async def test_odd_content_is_a_message_and_no_link_of_it_is_followed(
    door: Door, content: dict[str, Any]
) -> None:
    # B35
    name = door.name()
    body = message_body(None, message_id=name, conversation_id=name, content=content)
    assert (await door.post(body))[0] == 200

    async def state() -> str | None:
        for row in await door.stored():
            if row["dedupe_key"] == f"m:{name}" and row["state"] != "open":
                return row["state"]
        return None

    assert await eventually(state) == "done"


async def test_a_message_for_another_accounts_conversation_opens_one_of_its_own(tmp_path: Path) -> None:
    # B37
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, Marketplace(), accounts={"shop-1": "", "shop-2": ""})
    callback = Callback()
    async with Running(url, callback) as running:
        await running.say(COMPLAINT, message_id="m-1", conversation_id="c-1")
        await running.say(QUESTION, message_id="m-1", conversation_id="c-1", account="shop-2")
        await running.settle()
        rows = await running.rows(conversations)
    states = {row["account_id"]: row["state"] for row in rows}
    assert states == {"shop-1": "queued", "shop-2": "bot"}


async def test_a_body_that_trickles_is_408_and_the_line_closed(tmp_path: Path) -> None:
    # B22, with a shorter patience than the usual ten seconds.
    url = f"sqlite:///{tmp_path / 'huoji.db'}"
    await install(url, tmp_path, Marketplace())
    async with Running(url, Callback()) as running, _serving(running, body_seconds=0.3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /webhooks/generic/shop-1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.split(b" ")[1] == b"408"
        assert b"connection: close" in answer.lower()
        assert b"too_slow" in answer
        assert await running.rows(inbox) == []


class _Server(uvicorn.Server):
    """Leaves the test runner's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving(running: Running, *, body_seconds: float) -> AsyncIterator[int]:
    """Serve a program's webhooks on a port of its own, with another patience."""
    application = running.application
    edge = WebhookEdge(
        application.inbox,
        clock=application.clock,
        metrics=application.metrics,
        max_body=MAX_BODY,
        body_seconds=body_seconds,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(cast(Any, edge), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await eventually(lambda: server.started)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
