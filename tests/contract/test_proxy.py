"""The proxy's configuration, run by a real nginx before two servers that a test makes misbehave."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests import nginx, processes
from tests.missing import skip_for_lack_of
from tests.waiting import eventually

BODY = '{"text": "什么时候发货",  "n":1e2}'.encode()

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Upstream:
    """Stands for one Huoji process."""

    port: int
    answer: Answer
    seen: list[tuple[web.Request, bytes]] = field(default_factory=list)
    runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        """Listen no more; whoever connects is refused."""
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request, await request.read()))
        return await self.answer(request)


async def fine(request: web.Request) -> web.StreamResponse:
    return web.json_response({})


async def later(request: web.Request) -> web.StreamResponse:
    return web.json_response({"code": "overloaded"}, status=503, headers={"Retry-After": "7"})


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"heard {message.data}")
    return socket


@dataclass
class Proxy:
    """A running nginx, the two servers behind it and a client before it."""

    url: str
    one: Upstream
    two: Upstream
    client: aiohttp.ClientSession

    async def post(self, path: str) -> tuple[int, dict[str, str]]:
        async with self.client.post(self.url + path, data=BODY) as response:
            return response.status, dict(response.headers)

    @property
    def seen(self) -> list[tuple[web.Request, bytes]]:
        return self.one.seen + self.two.seen


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    one, two = (Upstream(processes.free_port(), fine) for _ in range(2))
    listen, log = processes.free_port(), tmp_path / "log.txt"
    server = nginx.start(tmp_path, listen=listen, ports=(one.port, two.port), log=log)
    await one.start()
    await two.start()
    url = f"http://127.0.0.1:{listen}"
    async with aiohttp.ClientSession() as client:

        async def answers() -> bool:
            assert server.poll() is None, f"nginx ended at once: {log.read_text()}"
            try:
                async with client.get(url + "/proxy-alive") as response:
                    return response.status == 204
            except aiohttp.ClientConnectionError:
                return False

        try:
            await eventually(answers, timeout=20, what="nginx to listen")
            yield Proxy(url, one, two, client)
        finally:
            processes.end(server, signal.SIGTERM, timeout=10)
            await one.stop()
            await two.stop()


async def test_both_processes_get_their_share_of_webhooks_with_their_bytes_unchanged(proxy: Proxy):
    assert {(await proxy.post("/webhooks/generic/a"))[0] for _ in range(10)} == {200}
    assert len(proxy.one.seen) == len(proxy.two.seen) == 5
    assert {body for _, body in proxy.seen} == {BODY}
    assert {request.path for request, _ in proxy.seen} == {"/webhooks/generic/a"}


async def test_a_webhook_finds_the_process_that_still_lives(proxy: Proxy):
    await proxy.one.stop()
    answers = [await proxy.post("/webhooks/generic/a") for _ in range(6)]
    assert {status for status, _ in answers} == {200}
    assert len(proxy.two.seen) == 6


async def test_a_webhook_that_one_process_asks_to_come_later_is_taken_by_the_other(proxy: Proxy):
    proxy.one.answer = later
    answers = [await proxy.post("/webhooks/generic/a") for _ in range(6)]
    assert {status for status, _ in answers} == {200}
    assert len(proxy.two.seen) == 6


async def test_a_webhook_whose_process_hangs_up_is_posted_to_the_other_with_the_same_bytes(proxy: Proxy):
    proxy.one.answer = hang_up
    answers = [await proxy.post("/webhooks/generic/a") for _ in range(6)]
    assert {status for status, _ in answers} == {200}
    assert proxy.one.seen
    assert {body for _, body in proxy.seen} == {BODY}


async def test_when_both_ask_to_come_later_so_does_the_proxy_and_it_tries_twice_only(proxy: Proxy):
    proxy.one.answer = proxy.two.answer = later
    for _ in range(5):
        status, headers = await proxy.post("/webhooks/generic/a")
        assert (status, headers["Retry-After"]) == (503, "7")
    assert len(proxy.seen) == 10
    proxy.one.answer = proxy.two.answer = fine
    assert (await proxy.post("/webhooks/generic/a"))[0] == 200


async def test_a_command_that_a_process_has_seen_is_never_sent_again(proxy: Proxy):
    proxy.one.answer = proxy.two.answer = hang_up
    status, _ = await proxy.post("/api/v1/conversations/c-1/messages")
    assert status == 502
    assert len(proxy.seen) == 1


async def test_a_command_that_could_not_be_connected_goes_to_the_other(proxy: Proxy):
    await proxy.two.stop()
    answers = [await proxy.post("/api/v1/sessions") for _ in range(6)]
    assert {status for status, _ in answers} == {200}
    assert len(proxy.one.seen) == 6


async def test_a_503_of_the_api_is_passed_on_and_takes_nobody_out(proxy: Proxy):
    proxy.one.answer = proxy.two.answer = later
    answers = [await proxy.post("/api/v1/sessions") for _ in range(4)]
    assert {status for status, _ in answers} == {503}
    assert len(proxy.seen) == 4


async def test_agents_sockets_are_upgraded_and_talk_both_ways(proxy: Proxy):
    proxy.one.answer = proxy.two.answer = echo
    async with proxy.client.ws_connect(proxy.url + "/ws/agent") as socket:
        await socket.send_str("您好")
        assert await socket.receive_str(timeout=10) == "heard 您好"


async def test_an_agents_socket_opens_at_the_process_that_still_lives(proxy: Proxy):
    proxy.two.answer = echo
    await proxy.one.stop()
    for _ in range(3):
        async with proxy.client.ws_connect(proxy.url + "/ws/agent") as socket:
            await socket.send_str("x")
            assert await socket.receive_str(timeout=10) == "heard x"


async def test_nobody_outside_can_upgrade_to_anything_else_or_claim_another_address(proxy: Proxy):
    headers = {
        "Connection": "upgrade",
        "Upgrade": "h2c",
        "X-Forwarded-For": "8.8.8.8",
        "X-Forwarded-Proto": "https",
    }
    async with proxy.client.get(proxy.url + "/api/v1/shops", headers=headers) as response:
        assert response.status == 200
    (request, _), *others = proxy.seen
    assert others == []
    assert "Upgrade" not in request.headers
    assert request.headers["X-Forwarded-For"] == "127.0.0.1"
    assert request.headers["X-Forwarded-Proto"] == "http"
    assert request.headers["Host"] == proxy.url.removeprefix("http://")


async def test_figures_are_not_for_the_outside(proxy: Proxy):
    async with proxy.client.get(proxy.url + "/metrics") as response:
        assert response.status == 404
    assert proxy.seen == []


def test_https_is_a_configuration_that_nginx_takes(tmp_path: Path):
    program, openssl = nginx.nginx(), shutil.which("openssl")
    if openssl is None:
        skip_for_lack_of("openssl", "Debian: apt install openssl")
    folder = tmp_path / "proxy"
    config = nginx.configure(folder, listen=processes.free_port(), ports=(1, 2))
    (folder / "servers" / "plain.conf").unlink()
    tls = (folder / "tls" / "tls.conf").read_text("utf-8").replace("/run/tls", str(tmp_path))
    (folder / "servers" / "tls.conf").write_text(tls, "utf-8")
    names = [
        "-keyout",
        tmp_path / "privkey.pem",
        "-out",
        tmp_path / "fullchain.pem",
        "-subj",
        "/CN=localhost",
    ]
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *names]
    subprocess.run([openssl, *made], capture_output=True, check=True)
    done = subprocess.run(
        [program, "-e", "stderr", "-t", "-p", tmp_path, "-c", config, "-g", nginx.directives()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
