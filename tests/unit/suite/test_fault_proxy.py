"""The fault proxy does to a line what it says, no more and no less."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.faults.proxy import FaultProxy, Way
from tests.waiting import eventually

PATIENCE = 20.0


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back whatever comes, and ends when its client ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[FaultProxy]:
    """A proxy before it."""
    async with FaultProxy(echo, seed=7) as proxy:
        yield proxy


Connect = Callable[[FaultProxy], Awaitable["Client"]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes connections that are closed at the end."""
    made: list[Client] = []

    async def connect(proxy: FaultProxy) -> Client:
        made.append(Client(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        return made[-1]

    yield connect
    for client in made:
        await client.close()


class Client:
    """One connection through a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def close(self) -> None:
        """Close it, whatever has become of it."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def ask(self, data: bytes) -> bytes:
        """Send something and return as many bytes."""
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data)), PATIENCE)

    async def rest(self) -> bytes:
        """What comes until the line ends in order."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE)


async def test_a_good_line_carries_everything_unchanged_and_ends_with_its_ends(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect(proxy)
    data = bytes(range(256)) * 4000
    assert await client.ask(data) == data
    client.writer.write_eof()
    assert await client.rest() == b""
    client.writer.close()
    await eventually(lambda: proxy.open == 0, what="the connection to end")
    assert (proxy.up.bytes, proxy.down.bytes) == (len(data), len(data))


async def test_latency_holds_both_ways_at_once_and_only_while_it_acts(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect(proxy)
    proxy.spoil(latency=0.1)
    began = time.monotonic()
    assert await client.ask(b"late") == b"late"
    assert time.monotonic() - began >= 0.2
    proxy.spoil()
    assert await client.ask(b"quick") == b"quick"


def test_jitter_is_the_same_for_the_same_seed() -> None:
    async def draws(seed: str) -> list[float]:
        way = Way(seed)
        way.spoil(latency=1.0, jitter=0.5)
        return [way.lateness() for _ in range(20)]

    first = asyncio.run(draws("a"))
    assert first == asyncio.run(draws("a")) != asyncio.run(draws("b"))
    assert 1.0 <= min(first) < max(first) <= 1.5


async def test_jitter_never_changes_the_order_of_bytes(proxy: FaultProxy, connect: Connect) -> None:
    proxy.spoil(jitter=0.02)
    client = await connect(proxy)
    pieces = [bytes([n]) * 10 for n in range(30)]
    for piece in pieces:
        client.writer.write(piece)
        await client.writer.drain()
    assert await asyncio.wait_for(client.reader.readexactly(300), PATIENCE) == b"".join(pieces)


async def test_a_narrow_line_takes_as_long_as_its_bandwidth_says(proxy: FaultProxy, connect: Connect) -> None:
    proxy.up.spoil(bytes_per_second=20_000)
    client = await connect(proxy)
    began = time.monotonic()
    await client.ask(bytes(6000))
    assert time.monotonic() - began >= 0.3


async def test_a_stuck_line_keeps_its_connections_and_delivers_when_it_is_free_again(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect(proxy)
    assert await client.ask(b"before") == b"before"
    proxy.down.spoil(is_stuck=True)
    client.writer.write(b"held")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.1)
    assert proxy.open == 1
    proxy.spoil()
    assert await asyncio.wait_for(client.reader.readexactly(4), PATIENCE) == b"held"


async def test_slices_arrive_piece_by_piece_and_whole_in_the_end(proxy: FaultProxy, connect: Connect) -> None:
    proxy.down.spoil(slice_bytes=3, slice_pause=0.01)
    client = await connect(proxy)
    client.writer.write(b"0123456789")
    first = await asyncio.wait_for(client.reader.read(100), PATIENCE)
    assert len(first) < 10
    assert (
        first + await asyncio.wait_for(client.reader.readexactly(10 - len(first)), PATIENCE) == b"0123456789"
    )


async def test_a_truncated_line_ends_in_order_in_the_middle(proxy: FaultProxy, connect: Connect) -> None:
    proxy.down.spoil(truncate_after=4)
    client = await connect(proxy)
    client.writer.write(b"0123456789")
    assert await client.rest() == b"0123"


async def test_a_reset_line_breaks_after_so_many_bytes(proxy: FaultProxy, connect: Connect) -> None:
    proxy.down.spoil(reset_after=4)
    client = await connect(proxy)
    client.writer.write(b"0123456789")
    with pytest.raises(ConnectionResetError):
        await client.rest()
    await eventually(lambda: proxy.open == 0, what="the connection to be gone")


async def test_everything_open_is_reset_and_new_connections_are_refused_until_it_is_back(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect(proxy)
    await client.ask(b"x")
    await proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    await proxy.accept()
    assert await (await connect(proxy)).ask(b"again") == b"again"


async def test_a_slow_close_keeps_the_other_end_waiting(proxy: FaultProxy, connect: Connect) -> None:
    proxy.up.spoil(close_delay=0.2)
    client = await connect(proxy)
    assert await client.ask(b"x") == b"x"
    began = time.monotonic()
    client.writer.write_eof()
    assert await client.rest() == b""
    assert time.monotonic() - began >= 0.2


async def test_a_server_that_is_away_shows_as_a_reset(connect: Connect) -> None:
    async with FaultProxy(9) as proxy:
        client = await connect(proxy)
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_the_answer_to_certain_words_never_arrives(echo: int, connect: Connect) -> None:
    async with FaultProxy(echo) as proxy:
        client = await connect(proxy)
        proxy.up.spoil(reset_on_answer_to=b"COMMIT")
        assert await client.ask(b"INSERT") == b"INSERT"
        client.writer.write(b"Q....COMMIT;")
        with pytest.raises(ConnectionResetError):
            await client.rest()
        assert proxy.up.bytes == len(b"INSERTQ....COMMIT;")
        assert proxy.down.bytes == len(b"INSERT")
