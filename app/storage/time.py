"""The time that all processes of an installation agree on."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, text

from app.core.clock import Clock

__all__ = ["SharedTime", "shared_time"]

SharedTime = Callable[[Connection], int]
"""Gives milliseconds since 1970 UTC by a clock that no process disagrees about."""

_NOW = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")


def shared_time(clock: Clock) -> SharedTime:
    """Return the time that leases and limits go by: PostgreSQL's own, so that a host whose clock is wrong does no harm.

    On SQLite there is one process, and ``clock`` is as good.
    """

    def now_ms(connection: Connection) -> int:
        if connection.dialect.name == "postgresql":
            return connection.execute(_NOW).scalar_one()
        return clock.now_ms()

    return now_ms
