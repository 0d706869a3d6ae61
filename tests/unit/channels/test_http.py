"""The outgoing client against small servers on loopback: what it sends, keeps, refuses, and how failures differ."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.channels.addresses import AddressPolicy
from app.channels.connection import MAX_BODY
from app.channels.http import IDLE_SECONDS, HttpClient, OutcomeUnknownError, PeerUnavailableError
from app.domain.delivery import WireRequest
from tests.fakes import FakeClock
from tests.processes import free_port
from tests.waiting import eventually

LOOPBACK = AddressPolicy.parse(["127.0.0.0/8"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Peer:
    """A server that answers every request with the next of its answers (the last one for ever)."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list[bytes])
    connections: int = 0
    open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/in"


Behave = Callable[[bytes, asyncio.StreamWriter], bool]


def answering(*answers: bytes, close: bool = False) -> Behave:
    left = list(answers)

    def behave(_request: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        return not close

    return behave


@asynccontextmanager
async def serving(behave: Behave, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    peer = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.connections += 1
        peer.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                request = head + await reader.readexactly(length)
                peer.requests.append(request)
                if not behave(request, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            peer.open -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    async with server:
        yield peer


@asynccontextmanager
async def client_of(clock: FakeClock, policy: AddressPolicy = LOOPBACK) -> AsyncIterator[HttpClient]:
    client = HttpClient(clock=clock, policy=policy, connect_timeout=2)
    yield client
    await client.close()


@contextmanager
def look_up_loopback(*addresses: str) -> Iterator[None]:
    """Let every name lead to these addresses (127.0.0.1), as a DNS server of somebody's choice would."""

    async def look_up(_host: str, port: int, **_options: object) -> list[object]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses or ("127.0.0.1",)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
        yield


def make_certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate and its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + certificate.public_bytes(Encoding.PEM)
    )
    return path


def post(url: str, **headers: str) -> WireRequest:
    return WireRequest(
        method="POST", url=url, headers={"content-type": "application/json", **headers}, body=b'{"a":1}'
    )


async def test_the_request_leaves_byte_for_byte_and_the_answer_comes_back(clock: FakeClock):
    answer = b"HTTP/1.1 207 Fine\r\nX-One: a\r\nx-one: b\r\nContent-Length: 5\r\n\r\nhello"
    async with serving(answering(answer)) as peer, client_of(clock) as client:
        response = await client.send(post(peer.url + "?a=1", **{"webhook-id": "d-1"}), timeout=2)
    assert (response.status, response.body, response.headers["x-one"]) == (207, b"hello", "a, b")
    assert peer.requests == [
        b"POST /in?a=1 HTTP/1.1\r\n"
        + f"host: 127.0.0.1:{peer.port}\r\n".encode()
        + b"user-agent: Huoji\r\ncontent-type: application/json\r\nwebhook-id: d-1\r\n"
        + b'content-length: 7\r\n\r\n{"a":1}'
    ]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_every_framing_is_read_and_the_connection_kept(answer: bytes, body: bytes, clock: FakeClock):
    async with serving(answering(answer)) as peer, client_of(clock) as client:
        for _ in range(3):
            assert (await client.send(post(peer.url), timeout=2)).body == body
        assert (peer.connections, len(peer.requests)) == (1, 3)


async def test_an_answer_that_ends_with_its_connection_is_whole(clock: FakeClock):
    async with (
        serving(answering(b"HTTP/1.0 200 OK\r\n\r\nall of it", close=True)) as peer,
        client_of(clock) as client,
    ):
        assert (await client.send(post(peer.url), timeout=2)).body == b"all of it"


async def test_connections_are_shared_by_many_and_reused(clock: FakeClock):
    async with serving(answering(OK)) as peer, client_of(clock) as client:
        await asyncio.gather(*(client.send(post(peer.url), timeout=2) for _ in range(10)))
        at_most = peer.connections
        assert at_most <= 10
        for _ in range(30):
            await client.send(post(peer.url), timeout=2)
        assert (peer.connections, len(peer.requests)) == (at_most, 40)


async def test_a_connection_unused_for_too_long_is_not_trusted(clock: FakeClock):
    async with serving(answering(OK)) as peer, client_of(clock) as client:
        await client.send(post(peer.url), timeout=2)
        clock.advance(IDLE_SECONDS + 0.1)
        await client.send(post(peer.url), timeout=2)
        assert peer.connections == 2
        await eventually(lambda: peer.open == 1, what="the old connection to be closed")


async def test_a_connection_that_the_peer_gave_up_is_replaced(clock: FakeClock):
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(closing, close=True)) as peer, client_of(clock) as client:
        for _ in range(3):
            assert (await client.send(post(peer.url), timeout=2)).status == 200
        assert peer.connections == 3


async def test_a_long_body_is_cut_and_its_connection_dropped(clock: FakeClock):
    answer = b"HTTP/1.1 500 No\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1_000_000
    async with serving(answering(answer)) as peer, client_of(clock) as client:
        response = await client.send(post(peer.url), timeout=2)
        assert (response.status, len(response.body)) == (500, MAX_BODY)
        await eventually(lambda: peer.open == 0, what="the connection to be dropped")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
async def test_a_cut_or_senseless_answer_leaves_the_outcome_unknown(answer: bytes, clock: FakeClock):
    async with serving(answering(answer, close=True)) as peer, client_of(clock) as client:
        with pytest.raises(OutcomeUnknownError):
            await client.send(post(peer.url), timeout=2)
        assert len(peer.requests) == 1


async def test_no_answer_in_time_leaves_the_outcome_unknown(clock: FakeClock):
    async with serving(lambda _request, _writer: True) as peer, client_of(clock) as client:
        with pytest.raises(OutcomeUnknownError, match=r"0\.05"):
            await client.send(post(peer.url), timeout=0.05)
        await eventually(lambda: peer.open == 0, what="the connection to be dropped")


async def test_a_request_over_a_kept_connection_has_a_time_of_its_own(clock: FakeClock):
    answers = [OK, b""]

    def once(_request: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(answers.pop(0))
        return True

    async with serving(once) as peer, client_of(clock) as client:
        assert (await client.send(post(peer.url), timeout=600)).status == 200
        with pytest.raises(OutcomeUnknownError, match=r"0\.05"):
            await client.send(post(peer.url), timeout=0.05)
        assert peer.connections == 1


async def test_the_time_of_an_earlier_request_does_not_cut_a_later_one(clock: FakeClock):
    held: list[asyncio.StreamWriter] = []

    def hold_the_second(_request: bytes, writer: asyncio.StreamWriter) -> bool:
        if len(peer.requests) == 1:
            writer.write(OK)
        else:
            held.append(writer)
        return True

    loop = asyncio.get_running_loop()
    async with serving(hold_the_second) as peer, client_of(clock) as client:
        first_ends = loop.time() + 1
        assert (await client.send(post(peer.url), timeout=1)).status == 200
        sending = asyncio.create_task(client.send(post(peer.url), timeout=600))
        await eventually(
            lambda: held and loop.time() > first_ends + 0.1, what="the first one's time to be up"
        )
        held[0].write(OK)
        assert (await sending).status == 200
        assert peer.connections == 1


async def test_a_cancelled_request_takes_its_connection_along(clock: FakeClock):
    async with serving(lambda _request, _writer: True) as peer, client_of(clock) as client:
        sending = asyncio.create_task(client.send(post(peer.url), timeout=5))
        await eventually(lambda: peer.requests, what="the request to arrive")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await eventually(lambda: peer.open == 0, what="the connection to be dropped")


async def test_an_answer_nobody_asked_for_ends_the_connection(clock: FakeClock):
    async with serving(answering(OK + OK, OK)) as peer, client_of(clock) as client:
        assert (await client.send(post(peer.url), timeout=2)).status == 200
        await eventually(lambda: peer.open == 0, what="the connection to be dropped")
        assert (await client.send(post(peer.url), timeout=2)).status == 200
        assert peer.connections == 2


async def test_what_is_under_way_at_closing_is_finished_and_not_kept(clock: FakeClock):
    waiting: list[asyncio.StreamWriter] = []

    def hold(_request: bytes, writer: asyncio.StreamWriter) -> bool:
        waiting.append(writer)
        return True

    async with serving(hold) as peer, client_of(clock) as client:
        sending = asyncio.create_task(client.send(post(peer.url), timeout=5))
        await eventually(lambda: waiting, what="the request to arrive")
        await client.close()
        waiting[0].write(OK)
        assert (await sending).status == 200
        await eventually(lambda: peer.open == 0, what="the connection to be closed")


async def test_nobody_listening_means_nothing_was_sent(clock: FakeClock):
    async with client_of(clock) as client:
        with pytest.raises(PeerUnavailableError) as caught:
            await client.send(post(f"http://127.0.0.1:{free_port()}/"), timeout=2)
    assert caught.value.code == "peer_unavailable"


async def test_tls_is_checked_against_the_authorities_and_the_name(clock: FakeClock, tmp_path: Path):
    certificate = make_certificate(tmp_path, "shop.example.com")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=certificate)
    async with serving(answering(OK), tls=server_side) as peer:
        for host, context, passes in (
            ("shop.example.com", trusting, True),
            ("other.example.com", trusting, False),
            ("shop.example.com", None, False),
        ):
            client = HttpClient(clock=clock, policy=LOOPBACK, ssl_context=context)
            with look_up_loopback():
                request = post(f"https://{host}:{peer.port}/in")
                if passes:
                    for _ in range(2):
                        assert (await client.send(request, timeout=5)).status == 200
                else:
                    with pytest.raises(PeerUnavailableError, match="TLS"):
                        await client.send(request, timeout=5)
            await client.close()
        assert len(peer.requests) == 2


async def test_a_peer_without_tls_means_nothing_was_sent(clock: FakeClock):
    async with serving(answering(OK)) as peer, client_of(clock) as client:
        with pytest.raises(PeerUnavailableError):
            await client.send(post(peer.url.replace("http:", "https:")), timeout=2)
        assert peer.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://169.254.169.254/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "file:///etc/passwd",
        "http://a:b@127.0.0.1:{port}/",
        "http://127.1:{port}/",
    ],
)
async def test_a_private_address_is_never_called(url: str, clock: FakeClock):
    async with serving(answering(OK)) as peer, client_of(clock, AddressPolicy()) as client:
        with pytest.raises(PeerUnavailableError) as caught:
            await client.send(post(url.format(port=peer.port)), timeout=2)
        assert caught.value.code == "url_not_allowed"
        assert peer.connections == 0


async def test_a_public_name_that_leads_home_is_never_called(clock: FakeClock):
    async with serving(answering(OK)) as peer, client_of(clock, AddressPolicy()) as client:
        with look_up_loopback(), pytest.raises(PeerUnavailableError) as caught:
            await client.send(post(f"http://shop.example.com:{peer.port}/"), timeout=2)
        assert caught.value.code == "url_not_allowed"
        assert peer.connections == 0


async def test_of_several_addresses_the_allowed_one_is_called(clock: FakeClock):
    async with serving(answering(OK)) as peer, client_of(clock) as client:
        with look_up_loopback("10.0.0.1", "127.0.0.1"):
            assert (await client.send(post(f"http://shop.example.com:{peer.port}/"), timeout=2)).status == 200
        assert f"host: shop.example.com:{peer.port}".encode() in peer.requests[0]


@pytest.mark.parametrize("value", ["a\r\nx-admin: 1", "a\nb", "签名"])
async def test_a_header_cannot_smuggle_another(value: str, clock: FakeClock):
    async with serving(answering(OK)) as peer, client_of(clock) as client:
        with pytest.raises(PeerUnavailableError) as caught:
            await client.send(post(peer.url, **{"x-a": value}), timeout=2)
        assert caught.value.code == "header_invalid"
        assert peer.connections == 0
