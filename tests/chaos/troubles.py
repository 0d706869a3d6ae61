"""Every way to spoil a line, by name, and random sequences of them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping

from tests.faults.proxy import FaultProxy
from tests.waiting import pause

__all__ = ["TROUBLES", "Trouble", "at_random", "suffer"]

Trouble = Callable[[FaultProxy], Awaitable[None]]


def _both(**toxics: object) -> Trouble:
    async def spoil(proxy: FaultProxy) -> None:
        proxy.spoil(**toxics)

    return spoil


def _one_way(direction: str, **toxics: object) -> Trouble:
    async def spoil(proxy: FaultProxy) -> None:
        getattr(proxy, direction).spoil(**toxics)

    return spoil


async def _cut(proxy: FaultProxy) -> None:
    await proxy.cut()


TROUBLES: Mapping[str, Trouble] = {
    "latency": _both(latency=0.05),
    "jitter": _both(jitter=0.1),
    "bandwidth": _both(bytes_per_second=200_000),
    "slices": _both(slice_bytes=5),
    "stuck": _both(is_stuck=True),
    "questions stuck": _one_way("up", is_stuck=True),
    "answers stuck": _one_way("down", is_stuck=True),
    "questions truncated": _one_way("up", truncate_after=6000),
    "answers truncated": _one_way("down", truncate_after=6000),
    "questions reset": _one_way("up", reset_after=9000),
    "answers reset": _one_way("down", reset_after=9000),
    "truncated, slow to close": _both(truncate_after=6000, close_delay=0.5),
    "away": _cut,
}


async def suffer(proxy: FaultProxy, trouble: Trouble, seconds: float) -> None:
    """Have one trouble on the line for so many seconds, then none."""
    await trouble(proxy)
    await pause(seconds)
    proxy.spoil()
    await proxy.accept()


def at_random(seed: int) -> Iterator[tuple[str, Trouble, float]]:
    """Draw troubles without end, each with its name and how many seconds it lasts."""
    rng = random.Random(seed)
    names = sorted(TROUBLES)
    while True:
        name = rng.choice(names)
        yield name, TROUBLES[name], rng.uniform(0.2, 2.0)
