"""HTTP/1.1 on a raw asyncio transport: just enough for a client and a receiver that cost little.

Both ends are known programs on 127.0.0.1, so nothing here is meant for any other traffic.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Head:
    """Start line and headers of a message; names are lower-case."""

    start: bytes
    headers: dict[bytes, bytes]

    @property
    def status(self) -> int:
        """Status code when this is a response."""
        return int(self.start[9:12])

    @property
    def target(self) -> bytes:
        """Path and query when this is a request."""
        return self.start.split(b" ", 2)[1]


class HttpStream(asyncio.Protocol):
    """Splits the bytes of one connection into messages and hands each to :meth:`message`."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._head: Head | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transport is no subclass of asyncio.Transport, but has all its methods.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes and deliver every message that is complete."""
        self._buffer = self._buffer + data if self._buffer else data
        while True:
            if self._head is None:
                end = self._buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                self._head = _parse_head(self._buffer[:end])
                self._buffer = self._buffer[end + 4 :]
            body = self._take_body(self._head.headers)
            if body is None:
                return
            head, self._head = self._head, None
            self.message(head, body)
            if not self._buffer:
                return

    def message(self, head: Head, body: bytes) -> None:
        """Take one complete message; subclasses say what it means."""
        raise NotImplementedError

    def _take_body(self, headers: dict[bytes, bytes]) -> bytes | None:
        if b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            return self._take_chunks()
        length = int(headers.get(b"content-length", b"0"))
        if len(self._buffer) < length:
            return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def _take_chunks(self) -> bytes | None:
        body = b""
        at = 0
        while True:
            line = self._buffer.find(b"\r\n", at)
            if line < 0:
                return None
            size = int(self._buffer[at:line].partition(b";")[0], 16)
            end = line + 2 + size + 2
            if len(self._buffer) < end:
                return None
            body += self._buffer[line + 2 : line + 2 + size]
            at = end
            if not size:
                self._buffer = self._buffer[at:]
                return body


def _parse_head(raw: bytes) -> Head:
    start, *lines = raw.split(b"\r\n")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    return Head(start, headers)


class Connection(HttpStream):
    """One keep-alive client connection with at most one request under way."""

    def __init__(
        self, on_answer: Callable[["Connection", int], None], on_lost: Callable[["Connection"], None]
    ):
        super().__init__()
        self._on_answer = on_answer
        self._on_lost = on_lost
        self.sent: int = -1
        """Number of the message under way, for the owner."""

    def send(self, request: bytes) -> None:
        """Write one whole request."""
        assert self.transport is not None
        self.transport.write(request)

    def message(self, head: Head, body: bytes) -> None:
        """Tell the owner the status."""
        self._on_answer(self, head.status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        self._on_lost(self)


async def fetch(port: int, target: str, method: str = "GET") -> bytes:
    """Ask 127.0.0.1:``port`` once and return the body of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{method} {target} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(_parse_head(head[:-4]).headers[b"content-length"])
        return await reader.readexactly(length)
    finally:
        writer.close()
