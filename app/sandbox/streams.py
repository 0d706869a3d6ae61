"""Server-sent events: what happens in a page session, as it happens, with numbers to resume from.

Source: the HTML standard, "Server-sent events".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import orjson

from app.sandbox.chats import EventLog

__all__ = ["HEARTBEAT_SECONDS", "event_stream"]

HEARTBEAT_SECONDS = 15.0
"""A comment this often keeps proxies and browsers from taking a silent stream for a dead one."""


async def event_stream(
    log: EventLog, after: int, *, heartbeat: float = HEARTBEAT_SECONDS
) -> AsyncGenerator[bytes, None]:
    """Yield every event after number ``after``, then those to come, until the log is closed."""
    yield b"retry: 1000\n\n"
    while not log.is_closed:
        changed = log.changed()
        events = log.after(after)
        if events:
            after = events[-1][0]
            yield b"".join(
                b"id: %d\nevent: %b\ndata: %b\n\n" % (number, kind.encode(), orjson.dumps(data))
                for number, kind, data in events
            )
            continue
        try:
            await asyncio.wait_for(changed.wait(), heartbeat)
        except TimeoutError:
            yield b": still here\n\n"
