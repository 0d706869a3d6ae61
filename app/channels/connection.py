"""One kept-alive HTTP/1.1 connection: writes a request, reads its answer, one at a time."""

from __future__ import annotations

import asyncio
from typing import cast

import httptools

from app.domain.delivery import WireResponse

__all__ = ["MAX_BODY", "Connection", "ConnectionBrokenError"]

MAX_BODY = 64 * 1024
"""Bytes of an answer's body that are kept; the rest is not read."""

_MAX_HEADERS = 32 * 1024


class ConnectionBrokenError(Exception):
    """The connection ended, or what came over it is no HTTP; says which."""


class Connection(asyncio.Protocol):
    """A connection to one peer. ``idle_since`` is the owner's to keep."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[WireResponse] | None = None
        self._deadline = 0.0
        self._timeout = 0.0
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._is_open = False
        self._keep_alive = True
        self._begin_response()

    @property
    def is_usable(self) -> bool:
        """Whether another request can be sent over it."""
        transport = self._transport
        return (
            self._is_open
            and self._keep_alive
            and self._waiter is None
            and transport is not None
            and not transport.is_closing()
        )

    async def exchange(self, request: bytes, *, timeout: float) -> WireResponse:
        """Write a request's bytes and return its answer.

        Raises:
            ConnectionBrokenError: it ended before the answer was whole.
            TimeoutError: the answer took longer than ``timeout`` seconds.

        After either, and when cancelled, the connection is closed.
        """
        transport = self._transport
        assert transport is not None
        assert self._waiter is None, "one request at a time"
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[WireResponse] = loop.create_future()
        self._waiter = waiter
        self._limit(loop, timeout)
        transport.write(request)
        try:
            return await waiter
        except BaseException:
            # Also when cancelled: the answer would be taken for that of the next request.
            self._waiter = None
            self.close()
            raise

    def close(self) -> None:
        """End the connection at once."""
        self._is_open = False
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is no subclass of asyncio's, but does the same.
        self._transport = cast("asyncio.Transport", transport)
        self._is_open = True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            # Nothing was asked: whatever this is, the next answer could no longer be told from it.
            self.close()
            return
        if not self._headers_done:
            self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionBrokenError(f"the answer is no HTTP: {error}"))
            return
        if not self._headers_done and self._header_bytes > _MAX_HEADERS:
            self._fail(ConnectionBrokenError("the answer's headers have no end"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._stop_timer()
        if exc is None and self._headers_done and self._ends_with_connection:
            self._finish()
        self._fail(ConnectionBrokenError("the connection ended before the answer was whole"))

    # --- httptools ---

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._headers_done = True

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > MAX_BODY:
            # The status says what became of the request; the connection isn't worth reading to its end.
            self._keep_alive = False
            self._finish()
            self.close()

    def on_message_complete(self) -> None:
        if self._status < 200:
            # 100 Continue, 103 Early Hints: the answer proper follows.
            self._begin_response()
            return
        if self._waiter is None:
            # A second answer to one request: the next one could no longer be told from it.
            self.close()
            return
        self._keep_alive = self._keep_alive and self._parser.should_keep_alive()
        self._finish()

    # --- inside ---

    def _limit(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Give the exchange that begins its time.

        A timer that an earlier exchange left behind is kept when it comes soon enough, and set anew by ``_on_time``:
        making one for every request would cost more than sending it.
        """
        self._timeout = timeout
        self._deadline = loop.time() + timeout
        if self._timer is not None:
            if self._timer_at <= self._deadline:
                return
            self._timer.cancel()
        self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer_at = self._deadline
        self._timer = loop.call_at(self._deadline, self._on_time, loop)

    def _on_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if loop.time() < self._deadline:
            self._set_timer(loop)
            return
        self._fail(TimeoutError(f"no answer within {self._timeout:g} s"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _ends_with_connection(self) -> bool:
        return "content-length" not in self._headers and "chunked" not in self._headers.get(
            "transfer-encoding", ""
        )

    def _begin_response(self) -> None:
        self._status = 0
        self._headers: dict[str, str] = {}
        self._headers_done = False
        self._header_bytes = 0
        self._body = b""

    def _finish(self) -> None:
        waiter = self._waiter
        self._waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_result(
                WireResponse(status=self._status, headers=self._headers, body=bytes(self._body[:MAX_BODY]))
            )
        self._begin_response()

    def _fail(self, error: Exception) -> None:
        waiter = self._waiter
        self._waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.close()
