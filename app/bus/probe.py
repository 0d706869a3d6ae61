"""Asking a Redis whether it is there, for ``huoji doctor``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

__all__ = ["probe_redis"]


async def probe_redis(url: str, *, seconds: float = 2.0) -> str | None:
    """Return the kind of error that a Redis answers with, or None when it answers as it should. Never a secret."""
    try:
        from redis.asyncio import Redis
    except ImportError:
        return "the client library is missing: pip install 'huoji[redis]'"
    client: Any = None
    try:
        client = Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, protocol=2, socket_connect_timeout=seconds, socket_timeout=seconds
        )
        async with asyncio.timeout(2 * seconds):
            await client.ping()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was asked for
        return type(error).__name__
    finally:
        if client is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(seconds):
                    await client.aclose()
    return None
