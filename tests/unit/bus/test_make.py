"""Which bus an installation gets, and that a wrong URL is refused without being repeated."""

from __future__ import annotations

import pytest

from app.bus.local import LocalBus
from app.bus.make import make_bus
from app.core.errors import ConfigurationError
from app.core.metrics import Metrics
from tests.fakes import FakeClock, FakeIds


async def test_without_a_url_nobody_is_told_and_nothing_is_wrong(clock: FakeClock, ids: FakeIds) -> None:
    bus = make_bus(None, clock=clock, ids=ids, metrics=Metrics())
    heard: list[str] = []

    bus.subscribe("events", heard.append)
    await bus.start()
    bus.publish("events")
    await bus.stop()

    assert isinstance(bus, LocalBus)
    assert (heard, bus.trouble()) == ([], None)


async def test_a_url_that_cannot_be_understood_is_refused_without_its_password(
    clock: FakeClock, ids: FakeIds
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make_bus("redis://:s3cret@host:port/x", clock=clock, ids=ids, metrics=Metrics())

    assert "s3cret" not in str(refused.value)
    assert "HUOJI_REDIS_URL" in str(refused.value)
