"""The one outgoing client: requests to addresses that somebody typed, over connections kept alive.

HTTP/1.1 over asyncio with httptools (llhttp, the parser of the server side too). It does no redirects, no cookies, no
compression and no proxies, since a signed webhook wants none of them; measured against aiohttp in
``docs/decisions/0004-outgoing-http-client.md``.

A failure tells which of two things happened: ``PeerUnavailableError``, nothing was sent, so the peer surely didn't
take it; ``OutcomeUnknownError``, the request left and no answer came, so it may have.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from app.channels.addresses import PUBLIC_ONLY, AddressPolicy, IpAddress, read_address, url_problem
from app.channels.connection import Connection, ConnectionBrokenError
from app.core.clock import Clock
from app.core.errors import ChannelError
from app.domain.delivery import WireRequest, WireResponse

__all__ = ["HttpClient", "OutcomeUnknownError", "PeerUnavailableError", "Sender"]

IDLE_SECONDS = 4.0
"""How long an unused connection is kept: below the 5 s after which common servers close theirs, so that a request
hardly ever meets a connection that is just being closed."""

MAX_IDLE = 32
"""Unused connections kept for one peer."""

_MAX_TARGETS = 1024


class PeerUnavailableError(ChannelError):
    """No connection came about (name, route, TLS, or an address that isn't allowed): nothing was sent."""

    default_code = "peer_unavailable"


class OutcomeUnknownError(ChannelError):
    """The request was sent, the answer didn't come: the peer may have taken it."""

    default_code = "outcome_unknown"


class Sender(Protocol):
    """What those who send need: ``HttpClient``, or a fake in its place."""

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse:
        """See ``HttpClient.send``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Peer:
    """Whom to connect to. One object a peer, so that its connections are found without comparing names."""

    host: str
    port: int
    is_tls: bool


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL taken apart: whom to connect to, and the head of a request between its method and its own headers."""

    peer: _Peer
    head: str


class HttpClient:
    """Sends requests, for many coroutines at once. ``close`` when done."""

    def __init__(
        self,
        *,
        clock: Clock,
        policy: AddressPolicy = PUBLIC_ONLY,
        connect_timeout: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
        user_agent: str = "Huoji",
    ) -> None:
        """Take the clock (for idle times), which addresses are allowed, and the limit for connecting in seconds.

        ``ssl_context``: by default the system's authorities, with certificates and names checked.
        """
        self._clock = clock
        self._policy = policy
        self._connect_timeout = connect_timeout
        self._ssl_context = ssl_context
        self._user_agent = user_agent
        self._targets: dict[str, _Target] = {}
        self._peers: dict[tuple[str, int, bool], _Peer] = {}
        self._idle: dict[_Peer, deque[Connection]] = {}
        self._is_closed = False

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse:
        """Send a request once and return the answer, whatever its status; ``timeout`` in seconds covers all of it.

        Raises:
            PeerUnavailableError: nothing was sent.
            OutcomeUnknownError: it was sent, and no whole answer came in time.
        """
        target = self._target(request.url)
        message = _compose(request, target)
        peer = target.peer
        connection = self._take_idle(peer)
        if connection is None:
            started = self._clock.monotonic()
            connection = await self._connect(peer, min(timeout, self._connect_timeout))
            timeout = max(timeout - (self._clock.monotonic() - started), 0.001)
        try:
            response = await connection.exchange(message, timeout=timeout)
        except (ConnectionBrokenError, TimeoutError) as error:
            raise OutcomeUnknownError(f"{peer.host}: {error}") from error
        self._give_back(peer, connection)
        return response

    async def close(self) -> None:
        """Close the unused connections; those in use follow when their answers are there."""
        self._is_closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def _target(self, url: str) -> _Target:
        target = self._targets.get(url)
        if target is None:
            problem = url_problem(url, self._policy)
            if problem is not None:
                raise PeerUnavailableError(f"the address {problem}", code="url_not_allowed")
            if len(self._targets) >= _MAX_TARGETS:
                # Connections of the peers forgotten grow old unused, and are closed.
                self._targets.clear()
                self._peers.clear()
            target = self._targets[url] = self._take_apart(url)
        return target

    def _take_apart(self, url: str) -> _Target:
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_tls = parts.scheme == "https"
        port = parts.port or (443 if is_tls else 80)
        resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        name = f"[{host}]" if ":" in host else host
        authority = name if parts.port is None else f"{name}:{port}"
        key = (host, port, is_tls)
        peer = self._peers.get(key)
        if peer is None:
            peer = self._peers[key] = _Peer(host, port, is_tls)
        return _Target(
            peer, f" {resource} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: {self._user_agent}\r\n"
        )

    def _take_idle(self, peer: _Peer) -> Connection | None:
        connections = self._idle.get(peer)
        if not connections:
            return None
        oldest = self._clock.monotonic() - IDLE_SECONDS
        while connections:
            # The one used last: the others may then grow old and be closed.
            connection = connections.pop()
            if connection.is_usable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    def _give_back(self, peer: _Peer, connection: Connection) -> None:
        connections = self._idle.get(peer)
        if connections is None:
            connections = self._idle[peer] = deque()
        if self._is_closed or not connection.is_usable or len(connections) >= MAX_IDLE:
            connection.close()
            return
        now = self._clock.monotonic()
        connection.idle_since = now
        connections.append(connection)
        while connections[0].idle_since < now - IDLE_SECONDS:
            connections.popleft().close()

    def _close_old(self) -> None:
        oldest = self._clock.monotonic() - IDLE_SECONDS
        for peer, connections in list(self._idle.items()):
            while connections and (connections[0].idle_since < oldest or not connections[0].is_usable):
                connections.popleft().close()
            if not connections:
                del self._idle[peer]

    async def _connect(self, peer: _Peer, timeout: float) -> Connection:
        self._close_old()
        reason = "no address"
        try:
            async with asyncio.timeout(timeout):
                for address in await self._resolve(peer):
                    try:
                        return await self._connect_to(address, peer)
                    except ssl.SSLError as error:
                        reason = f"TLS: {error.reason or error}"
                    except OSError as error:
                        reason = error.strerror or str(error)
        except TimeoutError as error:
            raise PeerUnavailableError(f"{peer.host}: no connection within {timeout:g} s") from error
        raise PeerUnavailableError(f"{peer.host}: {reason}")

    async def _connect_to(self, address: IpAddress, peer: _Peer) -> Connection:
        context = None
        if peer.is_tls:
            context = self._ssl_context = self._ssl_context or ssl.create_default_context()
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection,
            str(address),
            peer.port,
            ssl=context,
            server_hostname=peer.host if context else None,
        )
        return connection

    async def _resolve(self, peer: _Peer) -> list[IpAddress]:
        """Return the allowed addresses of a peer. What is connected to is what was checked: a name that changes its
        address in between changes nothing."""
        spelt_out = read_address(peer.host)
        if spelt_out is not None:
            found = [spelt_out]
        else:
            try:
                answers = await asyncio.get_running_loop().getaddrinfo(
                    peer.host, peer.port, type=socket.SOCK_STREAM
                )
            except (OSError, UnicodeError) as error:
                raise PeerUnavailableError(f"{peer.host}: the name can't be resolved") from error
            found = [
                address for answer in answers if (address := read_address(str(answer[4][0]))) is not None
            ]
        allowed = [address for address in dict.fromkeys(found) if self._policy.allows(address, peer.host)]
        if not allowed:
            raise PeerUnavailableError(f"{peer.host} leads into a private network", code="url_not_allowed")
        return allowed


def _compose(request: WireRequest, target: _Target) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
    head = f"{request.method}{target.head}{lines}content-length: {len(request.body)}\r\n\r\n"
    # A line break inside a header would begin a header of its own.
    if head.count("\n") != len(request.headers) + 5 or head.count("\r") != len(request.headers) + 5:
        raise PeerUnavailableError("a header must not hold a line break", code="header_invalid")
    try:
        return head.encode("latin-1") + request.body
    except UnicodeEncodeError as error:
        raise PeerUnavailableError(
            "a header holds characters that none can carry", code="header_invalid"
        ) from error
