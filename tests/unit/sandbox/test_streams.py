"""What a listening page is told."""

from __future__ import annotations

from app.sandbox.chats import EventLog
from app.sandbox.streams import event_stream


async def test_a_listener_gets_what_it_missed_and_then_what_comes():
    log = EventLog()
    for text in ("a", "b"):
        log.append("message", {"text": text})
    stream = event_stream(log, 1)
    assert await anext(stream) == b"retry: 1000\n\n"
    assert await anext(stream) == b'id: 2\nevent: message\ndata: {"text":"b"}\n\n'
    log.append("message", {"text": "c"})
    assert await anext(stream) == b'id: 3\nevent: message\ndata: {"text":"c"}\n\n'
    await stream.aclose()


async def test_a_silent_stream_shows_that_it_lives():
    stream = event_stream(EventLog(), 0, heartbeat=0.01)
    await anext(stream)
    assert (await anext(stream)).startswith(b":")
    await stream.aclose()


async def test_a_closed_log_ends_its_streams():
    log = EventLog()
    stream = event_stream(log, 0)
    await anext(stream)
    log.close()
    assert [chunk async for chunk in stream] == []
