"""The bus over Redis publish/subscribe.

Two connections, each with a task of its own that connects, fails and tries again without anybody waiting for it: one
listens, one sends. Nothing is stored in Redis, so that one that restarts empty is as good as any.

Source: the library notes (publish/subscribe is at-most-once: it only carries "something changed"); the faults to
survive, F18–F20.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.bus.base import Heard
from app.bus.pending import PendingHints
from app.core.clock import Clock
from app.core.ids import Ids
from app.core.metrics import Metrics

__all__ = ["RedisBus"]

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 1.0
"""How long Redis may take over anything before its connection counts as lost."""

QUIET_SECONDS = 2.0
"""After that long without a hint the listener asks whether Redis is still there."""

PACE_SECONDS = 0.005
"""Pause after each sending, in which hints unite: at most 200 round trips a second, whatever the load."""

FIRST_RETRY_SECONDS = 0.1
LONGEST_RETRY_SECONDS = 5.0


class RedisBus:
    """Hints through one Redis. Processes hear each other when their URLs name the same server and database number."""

    def __init__(self, url: str, *, clock: Clock, ids: Ids, metrics: Metrics) -> None:
        """Take the URL (``redis://``, ``rediss://`` or ``unix://``; it may hold a password). Connects to nothing yet.

        Raises:
            ValueError: the URL can't be understood.
        """
        self._url = url
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._me = ids.token(9)
        self._heard: dict[str, list[Heard]] = {}
        self._pending = PendingHints()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_listening = False
        self._can_send = True
        self._is_lost = False
        self._is_stopping = False
        # Channels don't belong to a database number in Redis; two installations on one server are told apart here.
        number = self._client().connection_pool.connection_kwargs.get("db") or 0
        self._prefix = f"huoji:{number}:"

    def publish(self, topic: str, payload: str = "") -> None:
        """Hint at a change; see ``Bus``."""
        self._pending.add(topic, payload)
        self._wake.set()

    def subscribe(self, topic: str, heard: Heard) -> None:
        """Have ``heard`` called with every hint of a topic; see ``Bus``."""
        self._heard.setdefault(topic, []).append(heard)

    async def start(self) -> None:
        """Begin connecting, listening and sending."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._listen_for_ever(), name="bus-listener"),
            loop.create_task(self._send_for_ever(), name="bus-sender"),
        ]

    async def stop(self) -> None:
        """Send what waits, if that takes no time, and end both connections."""
        self._is_stopping = True
        waiting = set(self._tasks)
        while waiting:
            # Again and again: the client library may take a cancellation for a timeout of its own.
            for task in waiting:
                task.cancel()
            _, waiting = await asyncio.wait(waiting, timeout=ANSWER_SECONDS / 4)
        hints = self._pending.take()
        if self._tasks and hints and self.trouble() is None:
            client = self._client()
            with contextlib.suppress(Exception):
                await self._send(client, hints)
            await _close(client)
        self._tasks = []
        self._metrics.bus_connected.set(0)

    def trouble(self) -> str | None:
        """Say why hints don't get through now."""
        return None if self.carries() else "redis: unreachable; polling instead"

    def carries(self) -> bool:
        """Whether both connections are well."""
        return self._is_listening and self._can_send

    def _client(self) -> Any:
        # Any: the library's types leave most of what it returns open.
        return Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            self._url,
            protocol=2,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            single_connection_client=False,
        )

    # Listening

    async def _listen_for_ever(self) -> None:
        failures = 0
        while not self._is_stopping:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - whatever the client or the server comes up with
                failures = 1 if self._is_listening else failures + 1
                self._is_listening = False
                self._note(error)
            await self._clock.sleep(self._retry_seconds(failures))

    async def _listen(self) -> None:
        """Subscribe, have everybody look once, and pass hints on until the connection fails."""
        client = self._client()
        channel = client.pubsub()
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                topics = list(self._heard)
                await channel.subscribe(*(self._prefix + topic for topic in topics))
                for _ in topics:
                    await self._until(channel, "subscribe")
            self._is_listening = True
            self._note()
            # From here on nothing is missed; what was said before may have been.
            for topic in topics:
                self._tell(topic, "")
            while not self._is_stopping:
                message = await channel.get_message(timeout=QUIET_SECONDS)
                if message is not None:
                    self._take(message)
                    continue
                async with asyncio.timeout(ANSWER_SECONDS):
                    await channel.ping()
                    await self._until(channel, "pong")
        finally:
            await _close(channel)
            await _close(client)

    async def _until(self, channel: Any, kind: str) -> None:
        while True:
            message = await channel.get_message(timeout=ANSWER_SECONDS)
            if message is None:
                continue
            if message["type"] == kind:
                return
            self._take(message)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] != "message":
            return
        sender, _, payload = str(message["data"]).partition(" ")
        if sender == self._me:
            return
        topic = str(message["channel"]).removeprefix(self._prefix)
        self._metrics.bus_heard.labels(topic).inc()
        self._tell(topic, payload)

    def _tell(self, topic: str, payload: str) -> None:
        for heard in self._heard.get(topic, ()):
            try:
                heard(payload)
            except Exception:
                log.exception("bus.subscriber_failed", topic=topic)

    # Sending

    async def _send_for_ever(self) -> None:
        client = self._client()
        failures = 0
        try:
            while not self._is_stopping:
                await self._wake.wait()
                self._wake.clear()
                hints = self._pending.take()
                try:
                    await self._send(client, hints)
                except Exception as error:  # noqa: BLE001 - whatever the client or the server comes up with
                    failures += 1
                    self._can_send = False
                    self._count(self._metrics.bus_dropped, hints)
                    self._note(error)
                    await _close(client)
                    client = self._client()
                    # Meanwhile hints unite and wait; nobody waits for them.
                    await self._clock.sleep(self._retry_seconds(failures))
                    self._wake.set()
                else:
                    failures = 0
                    self._can_send = True
                    self._count(self._metrics.bus_published, hints)
                    self._note()
                    await self._clock.sleep(PACE_SECONDS)
        finally:
            await _close(client)

    async def _send(self, client: Any, hints: Mapping[str, str]) -> None:
        async with asyncio.timeout(2 * ANSWER_SECONDS):
            if not hints:
                # After a failure it wants to know whether sending works again.
                await client.ping()
                return
            pipeline = client.pipeline(transaction=False)
            for topic, payload in hints.items():
                pipeline.publish(self._prefix + topic, f"{self._me} {payload}")
            await pipeline.execute()

    def _count(self, counter: Any, hints: Mapping[str, str]) -> None:
        for topic in hints:
            counter.labels(topic).inc()

    # Both

    def _retry_seconds(self, failures: int) -> float:
        longest = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(max(0, failures - 1), 10))
        return longest * (0.5 + self._ids.fraction() / 2)

    def _note(self, error: Exception | None = None) -> None:
        """Keep the gauge, and log each loss and each return once."""
        is_well = self.carries()
        self._metrics.bus_connected.set(int(is_well))
        if error is not None and not self._is_lost:
            self._is_lost = True
            # Only the kind of error: its words may hold parts of the URL.
            log.warning("bus.lost", error=type(error).__name__, effect="changes of others are polled for")
        elif is_well and self._is_lost:
            self._is_lost = False
            log.info("bus.connected")


async def _close(one: Any) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(ANSWER_SECONDS):
            await one.aclose()
