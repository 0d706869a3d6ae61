"""A TCP proxy on loopback that spoils the line between two programs, as and when a test asks for it.

Each direction has its own `Toxics`, which may be changed at any time and hold at once for every connection, also those
already open. Chance is seeded: the same seed draws the same jitter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.faults.toxics import NONE, Toxics
from tests.waiting import pause

__all__ = ["FaultProxy", "Way"]

_CHUNK = 64 * 1024
_WAITING_CHUNKS = 64
"""How much one direction of a connection holds back before it stops reading: the sender then feels it, as over TCP."""


class Way:
    """One direction of all connections through a proxy."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)
        self._toxics = NONE
        self._flows = asyncio.Event()
        self._flows.set()
        self.bytes = 0
        """Bytes that got through so far."""

    @property
    def toxics(self) -> Toxics:
        """What spoils this direction now."""
        return self._toxics

    def spoil(self, **toxics: Any) -> None:
        """Let exactly these toxics act from now on; none at all make it a good line again."""
        self._toxics = replace(NONE, **toxics)
        if self._toxics.is_stuck:
            self._flows.clear()
        else:
            self._flows.set()

    def lateness(self) -> float:
        """Draw how many seconds a piece that comes now is late."""
        return self._toxics.latency + self._toxics.jitter * self._rng.random()

    async def flowing(self) -> None:
        """Wait while nothing gets through."""
        await self._flows.wait()


class _ResetError(Exception):
    """This connection is to be reset."""


@dataclass(slots=True)
class _Fate:
    """What both directions of one connection share."""

    sealed_by: Way | None = None
    """The direction in which the fateful words went; whatever comes the other way next is lost."""


class _Pump:
    """One direction of one connection: what is read here is written there, sooner or later."""

    def __init__(
        self, way: Way, fate: _Fate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._way = way
        self._fate = fate
        self._reader = reader
        self._writer = writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_CHUNKS)
        self._written = 0

    async def run(self) -> None:
        """Carry on until one end is closed; raises _ResetError where the connection is to be reset."""
        reading = asyncio.create_task(self._read())
        try:
            await self._write()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            try:
                data = await self._reader.read(_CHUNK)
            except ConnectionError:
                data = b""
            await self._queue.put((self._now() + self._way.lateness(), data))
            if not data:
                return

    async def _write(self) -> None:
        while True:
            due, data = await self._queue.get()
            if due > self._now():
                await pause(due - self._now())
            await self._way.flowing()
            if not data:
                await self._end()
                return
            if self._fate.sealed_by not in (None, self._way):
                raise _ResetError
            mark = self._way.toxics.reset_on_answer_to
            if mark is not None and mark in data:
                self._fate.sealed_by = self._way
            for piece in self._pieces(data):
                allowed = self._allowed(piece)
                if allowed:
                    await self._put(allowed)
                if len(allowed) < len(piece) or self._written == self._limit():
                    if self._way.toxics.reset_after is not None:
                        raise _ResetError
                    await self._end()
                    return

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            size = self._way.toxics.slice_bytes or len(data)
            yield data[start : start + size]
            start += size

    def _limit(self) -> int | None:
        toxics = self._way.toxics
        found = [limit for limit in (toxics.reset_after, toxics.truncate_after) if limit is not None]
        return min(found) if found else None

    def _allowed(self, piece: bytes) -> bytes:
        limit = self._limit()
        return piece if limit is None else piece[: max(0, limit - self._written)]

    async def _put(self, piece: bytes) -> None:
        toxics = self._way.toxics
        if toxics.bytes_per_second:
            await pause(len(piece) / toxics.bytes_per_second)
        await self._way.flowing()
        self._writer.write(piece)
        await self._writer.drain()
        self._written += len(piece)
        self._way.bytes += len(piece)
        if toxics.slice_bytes and toxics.slice_pause:
            await pause(toxics.slice_pause)

    async def _end(self) -> None:
        if self._way.toxics.close_delay:
            await pause(self._way.toxics.close_delay)
        await self._way.flowing()
        with contextlib.suppress(OSError, RuntimeError):
            if self._writer.can_write_eof():
                self._writer.write_eof()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class FaultProxy:
    """Stands between whoever connects to `port` and the server at `upstream`. A context manager."""

    def __init__(self, upstream: int, *, seed: int = 0) -> None:
        """`upstream`: a TCP port on loopback; `seed` steers every draw."""
        self._upstream = upstream
        self.up = Way(f"{seed} up")
        """From the client to the server."""
        self.down = Way(f"{seed} down")
        """From the server to the client."""
        self.port = 0
        self.connections = 0
        """Connections taken so far."""
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def __aenter__(self) -> FaultProxy:
        await self.accept()
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.refuse()
        self.reset()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def open(self) -> int:
        """Connections open now."""
        return len(self._open)

    async def accept(self) -> None:
        """Take connections, again on the same port where it refused them before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def cut(self) -> None:
        """Be away: refuse new connections and reset the open ones."""
        await self.refuse()
        self.reset()

    def reset(self) -> None:
        """Reset every open connection at once, both ways (RST)."""
        for task, writers in list(self._open.items()):
            for writer in writers:
                _reset(writer)
            task.cancel()

    def spoil(self, **toxics: Any) -> None:
        """Let the same toxics act in both directions; none at all make it a good line again."""
        self.up.spoil(**toxics)
        self.down.spoil(**toxics)

    @contextlib.asynccontextmanager
    async def spoilt(self, **toxics: Any) -> AsyncIterator[None]:
        """Let toxics act in both directions for a while."""
        self.spoil(**toxics)
        try:
            yield
        finally:
            self.spoil()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._open[task] = [writer]
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            # Whoever reset it waits for nothing; a task that ends cancelled would be reported as a failure.
            pass
        finally:
            del self._open[task]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._open[task]
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            _reset(writer)
            return
        writers.append(other_writer)
        fate = _Fate()
        pumps = [
            asyncio.create_task(_Pump(self.up, fate, reader, other_writer).run()),
            asyncio.create_task(_Pump(self.down, fate, other_reader, writer).run()),
        ]
        try:
            await asyncio.gather(*pumps)
        except (_ResetError, ConnectionError):
            for one in writers:
                _reset(one)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for one in writers:
                one.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection with RST instead of FIN, dropping what wasn't sent."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
