"""What waits to leave on one socket: bounded in bytes, written by one task."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

__all__ = ["MAX_QUEUED_BYTES", "FrameQueue"]

MAX_QUEUED_BYTES = 1_000_000
"""Source: the reliability notes, F38: bytes capped at 1 MB, closed, catches up later."""


class FrameQueue:
    """A queue of frames in front of a socket that may be slow.

    ``put`` never waits. When more than the cap would wait, nothing more is taken and ``on_overflow`` is called once.
    """

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        *,
        on_overflow: Callable[[], None],
        max_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        self._send = send
        self._on_overflow = on_overflow
        self._max_bytes = max_bytes
        self._frames: deque[tuple[str, int]] = deque()
        self._bytes = 0
        self._is_shut = False
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()

    def put(self, frame: str, size: int) -> None:
        """Take a frame of ``size`` bytes."""
        if self._is_shut:
            return
        # A lone frame may exceed the cap: it has to leave some time.
        if self._frames and self._bytes + size > self._max_bytes:
            self.shut()
            self._on_overflow()
            return
        self._frames.append((frame, size))
        self._bytes += size
        if self._bytes > self._max_bytes // 2:
            self._has_room.clear()
        self._filled.set()

    def shut(self) -> None:
        """Drop what waits and take nothing more."""
        self._is_shut = True
        self._frames.clear()
        self._bytes = 0
        self._has_room.set()

    async def room(self) -> None:
        """Wait until less than half the cap waits."""
        await self._has_room.wait()

    async def write(self) -> None:
        """Send what comes, in order, until cancelled."""
        while True:
            while self._frames:
                frame, size = self._frames[0]
                await self._send(frame)
                if self._is_shut:
                    return
                self._frames.popleft()
                self._bytes -= size
                if self._bytes <= self._max_bytes // 2:
                    self._has_room.set()
            self._filled.clear()
            await self._filled.wait()
