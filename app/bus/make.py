"""Choosing the bus: Redis where a URL is set, else none."""

from __future__ import annotations

from app.bus.base import Bus
from app.bus.local import LocalBus
from app.core.clock import Clock
from app.core.errors import ConfigurationError
from app.core.ids import Ids
from app.core.metrics import Metrics

__all__ = ["make_bus"]


def make_bus(url: str | None, *, clock: Clock, ids: Ids, metrics: Metrics) -> Bus:
    """Return the bus for ``HUOJI_REDIS_URL``; connects to nothing.

    Raises:
        ConfigurationError: the Redis client isn't installed, or the URL can't be understood.
    """
    if url is None:
        return LocalBus()
    try:
        from app.bus.redis_bus import RedisBus
    except ImportError as error:
        raise ConfigurationError(
            "HUOJI_REDIS_URL is set, but the Redis client is missing; install it with: pip install 'huoji[redis]'",
            code="redis_missing",
        ) from error
    try:
        return RedisBus(url, clock=clock, ids=ids, metrics=metrics)
    except ValueError:
        # Without its words, which repeat parts of the URL.
        raise ConfigurationError(
            "HUOJI_REDIS_URL can't be understood; write e.g. redis://localhost:6379/0",
            code="settings_invalid",
        ) from None
