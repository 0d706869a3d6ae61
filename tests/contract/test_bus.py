"""The bus over a real Redis: what is heard, and what happens while Redis is away, hangs or comes back empty."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from structlog.testing import capture_logs

from app.bus.redis_bus import RedisBus
from app.core.clock import SystemClock
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from tests import processes
from tests.redis_process import RedisProcess
from tests.waiting import eventually, pause

pytestmark = pytest.mark.redis


class Member:
    """One process on the bus, with what it heard."""

    def __init__(self, url: str) -> None:
        clock = SystemClock()
        self.metrics = Metrics()
        self.bus = RedisBus(url, clock=clock, ids=SystemIds(clock), metrics=self.metrics)
        self.heard: list[tuple[str, str]] = []
        for topic in ("inbox", "events"):
            self.bus.subscribe(topic, lambda payload, topic=topic: self.heard.append((topic, payload)))

    def dropped(self, topic: str) -> float:
        """How many hints Redis didn't take."""
        return self.metrics.registry.get_sample_value("huoji_bus_dropped_total", {"topic": topic}) or 0.0

    async def connected(self) -> None:
        """Wait until hints get through, and forget the calls to look once that come with it."""
        await eventually(lambda: self.bus.trouble() is None and len(self.heard) >= 2, what="the bus")
        self.heard.clear()


@contextlib.asynccontextmanager
async def members(url: str, number: int = 2) -> AsyncIterator[list[Member]]:
    """Start some members and stop them at the end."""
    made = [Member(url) for _ in range(number)]
    for one in made:
        await one.bus.start()
    try:
        yield made
    finally:
        for one in made:
            await asyncio.wait_for(one.bus.stop(), 10)


@pytest.fixture
def own_redis() -> Iterator[RedisProcess]:
    """A Redis that this test may kill."""
    with RedisProcess() as server:
        yield server


async def test_others_hear_a_hint_and_the_sender_does_not(redis_url: str) -> None:
    async with members(redis_url, 3) as (first, second, third):
        for one in (first, second, third):
            await one.connected()

        first.bus.publish("inbox", "3,7")

        await eventually(lambda: second.heard and third.heard)
        second.bus.publish("events")
        await eventually(lambda: first.heard)
        assert first.heard == [("events", "")]
        assert second.heard == [("inbox", "3,7")]


async def test_a_thousand_hints_at_once_leave_in_a_few_messages(redis_url: str) -> None:
    async with members(redis_url) as (first, second):
        await first.connected()
        await second.connected()

        for number in range(1000):
            first.bus.publish("inbox", str(number % 64))
            if number % 100 == 99:
                await pause(0)
        await eventually(lambda: {word for _, words in second.heard for word in words.split(",")} == _ALL)

        assert len(second.heard) < 20


_ALL = {str(number) for number in range(64)}


async def test_what_is_said_right_before_stopping_is_heard(redis_url: str) -> None:
    async with members(redis_url) as (first, second):
        await first.connected()
        await second.connected()

        first.bus.publish("inbox", "3")
        await first.bus.stop()

        await eventually(lambda: second.heard == [("inbox", "3")])


async def test_installations_on_different_database_numbers_do_not_hear_each_other(redis_url: str) -> None:
    other_url = redis_url.removesuffix("/0") + "/1"
    async with members(redis_url) as (first, second), members(other_url, 1) as (other,):
        for one in (first, second, other):
            await one.connected()

        first.bus.publish("inbox", "1")
        await eventually(lambda: second.heard)

        assert other.heard == []


async def test_a_redis_that_dies_and_comes_back_empty_makes_everybody_look_again(
    own_redis: RedisProcess,
) -> None:
    async with members(own_redis.url) as (first, second):
        await first.connected()
        await second.connected()
        own_redis.kill()
        first.bus.publish("inbox", "5")
        await eventually(lambda: first.dropped("inbox") == 1, what="the hint to be given up")
        await eventually(lambda: first.bus.trouble() and second.bus.trouble(), what="the loss to be noticed")
        for _ in range(10_000):
            first.bus.publish("inbox", "6")

        own_redis.start()

        await eventually(
            lambda: {("inbox", ""), ("events", "")} <= set(second.heard), what="the call to look again"
        )
        # What was published meanwhile leaves as one hint when the sender gets through again.
        await eventually(lambda: first.bus.trouble() is None)
        second.heard.clear()
        first.bus.publish("inbox", "8")
        await eventually(lambda: ("inbox", "8") in second.heard)
        assert len(second.heard) == 1


async def test_nobody_waits_for_a_redis_that_takes_connections_and_never_answers(
    own_redis: RedisProcess,
) -> None:
    own_redis.freeze()
    began = time.monotonic()
    async with members(own_redis.url) as (first, second):
        for number in range(100_000):
            first.bus.publish("inbox", str(number % 64))
        took = time.monotonic() - began
        await eventually(lambda: first.dropped("inbox") >= 1, what="the first hint to be given up")
        assert first.bus.trouble() == "redis: unreachable; polling instead"
        own_redis.thaw()
        await eventually(lambda: first.bus.trouble() is None and second.bus.trouble() is None)
    assert took < 5


async def test_a_redis_that_hangs_later_is_noticed_and_heard_again_once_it_goes_on(
    own_redis: RedisProcess,
) -> None:
    async with members(own_redis.url) as (first, second):
        await first.connected()
        await second.connected()
        own_redis.freeze()
        await eventually(lambda: second.bus.trouble(), what="the hang to be noticed")

        own_redis.thaw()

        await eventually(lambda: ("events", "") in second.heard, what="the call to look again")


async def test_what_is_logged_about_a_lost_redis_names_neither_password_nor_host() -> None:
    port = processes.free_port()
    with capture_logs() as logs:
        async with members(f"redis://huoji:s3cret@127.0.0.1:{port}/0", 1) as (only,):
            only.bus.publish("inbox", "1")
            await eventually(lambda: only.dropped("inbox") >= 1)
    assert [one["event"] for one in logs] == ["bus.lost"]
    assert "s3cret" not in str(logs)


async def test_a_subscriber_with_a_bug_does_not_deafen_the_others(redis_url: str) -> None:
    async with members(redis_url) as (first, second):
        await first.connected()
        await second.connected()
        bus = second.bus

        def broken(payload: str) -> None:
            raise RuntimeError("bug")

        bus.subscribe("events", broken)
        later: list[str] = []
        bus.subscribe("events", later.append)

        first.bus.publish("events", "1")

        await eventually(lambda: later == ["1"])
