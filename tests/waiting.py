"""Waiting for a condition: the only place in the tests that sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

Found = TypeVar("Found")

_PAUSE = 0.01


def wait_until(check: Callable[[], Found], *, timeout: float = 30.0, what: str = "the condition") -> Found:
    """Call `check` until it gives something true, and return that.

    Raises AssertionError naming `what` after `timeout` seconds; whatever `check` raises ends the wait at once.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last answer was {found!r}")
        time.sleep(_PAUSE)  # noqa: TID251 - this is the wait itself


async def eventually(
    check: Callable[[], Found | Awaitable[Found]], *, timeout: float = 30.0, what: str = "the condition"
) -> Found:
    """The same for coroutines; `check` may be a plain or an async function."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        found = cast(Found, await answer) if isinstance(answer, Awaitable) else answer
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s for {what}; the last answer was {found!r}")
        await asyncio.sleep(_PAUSE)  # noqa: TID251 - this is the wait itself


async def pause(seconds: float) -> None:
    """Let somebody outside (a marketplace that posts again, a load that is not a flood) take its time."""
    await asyncio.sleep(seconds)  # noqa: TID251 - for what isn't a condition of ours
