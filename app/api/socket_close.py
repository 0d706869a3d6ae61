"""How agents' sockets are closed: the codes, and the wait that is told with those that say "come again".

Source: the contracts page, section 4; RFC 6455, section 7.4, and its registry of close codes.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ["CloseCode", "close", "come_again"]

CLOSE_SECONDS = 2.0


class CloseCode:
    """Why a socket is closed. Source: the contracts page, section 4, and RFC 6455."""

    RESTART = 1012
    TRY_LATER = 1013
    TOO_MANY = 1008
    TOO_BIG = 1009
    SIGNED_OUT = 4401
    TOO_SLOW = 4408
    TAKEN_OVER = 4409


def come_again(why: str, seconds: float) -> str:
    """Return a closing reason that a program can read the wait from: ``the server restarts; retry_in=2.4``.

    A browser shows a page neither the status nor the headers of a handshake that failed, but code and reason of a
    close. ``seconds`` are written with one decimal, rounded up: nobody is to come too early. A reason has at most 123
    bytes, so ``why`` is a few words.
    """
    return f"{why}; retry_in={-(-seconds * 10 // 1) / 10:.1f}"


async def close(websocket: WebSocket, code: int, reason: str) -> None:
    """Close an accepted socket, without waiting long for a reader that has stopped."""
    # Such a reader may block the close frame too; the server cuts the connection when this returns.
    with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await websocket.close(code, reason)
