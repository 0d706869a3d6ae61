"""Posts buyers' messages to one webhook on 127.0.0.1 and measures acknowledgements and replies.

Several ports are several processes behind the same webhook; connections are spread evenly over them.

Everything is built and signed before the clock starts; then the program prints ``ready`` and waits
for a line on standard input. While posting it only writes bytes and notes times. It prints
``posted`` after the last acknowledgement, waits for the replies if a receiver is named, and ends
with one line of JSON. Three ways of pacing:

- closed loop (default): each connection posts again as soon as it was acknowledged;
- ``--window N``: likewise, but never more than N messages without a reply;
- ``--rate R``: R messages a second at random (Poisson) times, whatever the server does. Latencies
  count from the time a message was due, so a stalled server can't hide its queue.

Bounded by ``--limit`` messages and ``--seconds``.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop

from benchmarks.knowledge import Questions, entries
from benchmarks.messages import Shape, Target, build
from benchmarks.signing import decode_secret
from benchmarks.wire import Connection, fetch

STALL_SECONDS = 0.5
"""Without any new reply for so long, unanswered messages no longer hold the window."""
LONGEST_DRAIN_SECONDS = 30.0
"""The wait for replies ends after so long in any case."""
ACK_TIMEOUT_SECONDS = 15.0
"""The wait for the last acknowledgements ends after so long."""


def percentile(ordered: list[float], share: float) -> float:
    """Return the ``share`` (0–1) percentile of sorted values; 0.0 when there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to post, and how fast."""

    ports: list[int]
    target: Target
    shape: Shape
    limit: int
    seconds: float
    connections: int
    rate: float = 0.0
    window: int = 0
    receiver: int = 0
    duplicates: float = 0.0
    seed: int = 1
    patience: float = 3.0
    """Without any new reply for so many seconds, the wait for replies ends."""


@dataclass(slots=True)
class Record:
    """What happened."""

    due: dict[int, float] = field(default_factory=dict[int, float])
    """Time at which each message was due (open loop) or first sent (otherwise)."""
    ack_seconds: list[float] = field(default_factory=list[float])
    statuses: dict[int, int] = field(default_factory=dict[int, int])
    acked: set[int] = field(default_factory=set[int])
    started: float = 0.0
    last_ack: float = 0.0
    lost_connections: int = 0


Unit = list[int]
"""Numbers that one connection posts one after the other."""


def units_of(plan: Plan) -> deque[Unit]:
    """Return the units in posting order, with duplicates strewn in."""
    source = random.Random(plan.seed)
    made: deque[Unit] = deque()
    for first in range(0, plan.limit, plan.shape.burst):
        unit: Unit = []
        raced = False
        for number in range(first, min(first + plan.shape.burst, plan.limit)):
            unit.append(number)
            if source.random() < plan.duplicates:
                # As a platform does: again at once, or (the first of a burst) beside the original.
                if number == first and source.random() < 0.5:
                    raced = True
                else:
                    unit.append(number)
        made.append(unit)
        if raced:
            made.append([first])
    return made


class Shot:
    """One run of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        questions = Questions(entries())
        self._requests = [build(plan.target, plan.shape, questions, n) for n in range(plan.limit)]
        self._units = units_of(plan)
        self._record = Record()
        self._idle: deque[Connection] = deque()
        self._under_way: dict[Connection, deque[int]] = {}
        self._sent_at: dict[Connection, float] = {}
        self._waiting: deque[tuple[float, Unit]] = deque()
        self._posted = 0
        self._answered = 0
        self._forgiven = 0
        self._last_answer = 0.0
        self._over = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open all connections, and follow the receiver if there is one."""
        loop = asyncio.get_running_loop()
        for number in range(self._plan.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self._acked, self._lost),
                "127.0.0.1",
                self._plan.ports[number % len(self._plan.ports)],
            )
            self._idle.append(connection)
        if self._plan.receiver:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.receiver)
            writer.write(b"GET /control/follow HTTP/1.1\r\nhost: bench\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            self._follower = asyncio.create_task(self._follow(reader, writer))

    async def post(self) -> None:
        """Post until the time or the messages are over and everything was acknowledged."""
        self._record.started = time.monotonic()
        self._last_answer = self._record.started
        if self._plan.rate:
            await self._post_on_schedule()
        else:
            self._fill()
            deadline = self._record.started + self._plan.seconds
            while time.monotonic() < deadline and (self._units or self._under_way):
                await asyncio.sleep(0.02)
                if self._plan.window and time.monotonic() - self._last_answer > STALL_SECONDS:
                    self._forgiven = len(self._record.due)
                self._fill()
            self._units.clear()
        if self._under_way or self._waiting:
            try:
                await asyncio.wait_for(self._over.wait(), ACK_TIMEOUT_SECONDS)
            except TimeoutError:
                print("some messages were never acknowledged", file=sys.stderr)

    async def drain(self) -> None:
        """Wait until every acknowledged message has its reply, or nothing comes any more."""
        start = time.monotonic()
        while self._answered < len(self._record.acked):
            now = time.monotonic()
            if (
                now - max(self._last_answer, start) > self._plan.patience
                or now - start > LONGEST_DRAIN_SECONDS
            ):
                return
            await asyncio.sleep(0.01)

    async def result(self) -> dict[str, Any]:
        """Return the figures of this shot."""
        record = self._record
        acks = sorted(record.ack_seconds)
        seconds = max(record.last_ack - record.started, 1e-9)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        found: dict[str, Any] = {
            "posted": self._posted,
            "acked": len(record.acked),
            "statuses": {str(status): count for status, count in record.statuses.items()},
            "lost_connections": record.lost_connections,
            "seconds": seconds,
            "ack_rate": record.statuses.get(200, 0) / seconds,
            "ack_p50_ms": percentile(acks, 0.50) * 1e3,
            "ack_p99_ms": percentile(acks, 0.99) * 1e3,
            "ack_max_ms": percentile(acks, 1.0) * 1e3,
            "client_cpu_seconds": usage.ru_utime + usage.ru_stime,
        }
        if self._plan.receiver:
            if self._follower is not None:
                self._follower.cancel()
            found |= self._replies(orjson.loads(await fetch(self._plan.receiver, "/control/arrivals")))
        return found

    def _replies(self, received: dict[str, Any]) -> dict[str, Any]:
        arrivals: dict[str, float] = received["arrivals"]
        shape = self._plan.shape
        ids = {n: shape.message_id(n) for n in self._record.acked}
        took = sorted(arrivals[i] - self._record.due[n] for n, i in ids.items() if i in arrivals)
        questions = Questions(entries())
        sample = [(n, received["texts"][i]) for n, i in ids.items() if i in received["texts"]]
        right = sum(questions[n].entry.answer in text for n, text in sample)
        stats = received["stats"]
        return {
            "answered": len(took),
            "unanswered": len(ids) - len(took),
            "reply_rate": len(took) / max(stats["last_arrival"] - self._record.started, 1e-9),
            "reply_p50_ms": percentile(took, 0.50) * 1e3,
            "reply_p99_ms": percentile(took, 0.99) * 1e3,
            "reply_max_ms": percentile(took, 1.0) * 1e3,
            "right_share": right / len(sample) if sample else 0.0,
            "doubled": stats["doubled"],
            "disordered": stats["disordered"],
            "repeated_keys": stats["repeated_keys"],
            "unsolicited": stats["unsolicited"],
        }

    async def _post_on_schedule(self) -> None:
        source = random.Random(self._plan.seed)
        due = self._record.started
        end = due + self._plan.seconds
        while self._units and due < end:
            due += source.expovariate(self._plan.rate)
            delay = due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            self._waiting.append((due, self._units.popleft()))
            self._fill()
        self._units.clear()

    def _fill(self) -> None:
        """Give work to idle connections as far as the pacing allows."""
        while self._idle:
            if self._waiting:
                due, unit = self._waiting.popleft()
                for number in unit:
                    self._record.due.setdefault(number, due)
            elif self._units and not self._plan.rate and self._may_post():
                unit = self._units.popleft()
            else:
                return
            connection = self._idle.popleft()
            self._under_way[connection] = deque(unit)
            self._send_next(connection)

    def _may_post(self) -> bool:
        window = self._plan.window
        return not window or len(self._record.due) - max(self._answered, self._forgiven) < window

    def _send_next(self, connection: Connection) -> None:
        number = self._under_way[connection].popleft()
        connection.sent = number
        now = time.monotonic()
        due = self._record.due.setdefault(number, now)
        self._sent_at[connection] = due if self._plan.rate else now
        self._posted += 1
        connection.send(self._requests[number])

    def _acked(self, connection: Connection, status: int) -> None:
        now = time.monotonic()
        record = self._record
        record.ack_seconds.append(now - self._sent_at[connection])
        record.statuses[status] = record.statuses.get(status, 0) + 1
        record.last_ack = now
        if status == 200:
            record.acked.add(connection.sent)
        if self._under_way[connection]:
            self._send_next(connection)
            return
        del self._under_way[connection]
        self._idle.append(connection)
        self._fill()
        if not self._under_way and not self._waiting:
            self._over.set()

    def _lost(self, connection: Connection) -> None:
        self._record.lost_connections += 1
        self._under_way.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._under_way:
            self._over.set()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self._answered = int(line)
                self._last_answer = time.monotonic()
                self._fill()
        finally:
            # Also keeps the writer referenced: its connection ends when it is collected.
            writer.close()


async def _run(plan: Plan) -> None:
    shot = Shot(plan)
    await shot.connect()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await shot.post()
    print("posted", flush=True)
    if plan.receiver:
        await shot.drain()
    print(json.dumps(await shot.result()), flush=True)


def _plan(arguments: argparse.Namespace) -> Plan:
    return Plan(
        ports=arguments.port,
        target=Target(arguments.path, decode_secret(arguments.secret)),
        shape=Shape(arguments.tag, arguments.conversations, arguments.burst, arguments.event),
        limit=arguments.limit,
        seconds=arguments.seconds,
        connections=arguments.connections,
        rate=arguments.rate,
        window=arguments.window,
        receiver=arguments.receiver,
        duplicates=arguments.duplicates,
        seed=arguments.seed,
        patience=arguments.patience,
    )


def main() -> None:
    """Run the one shot that the command line describes."""
    made = argparse.ArgumentParser(description="Post signed messages to a webhook on 127.0.0.1.")
    made.add_argument("--port", type=int, nargs="+", required=True)
    made.add_argument("--path", default="/webhooks/generic/bench")
    made.add_argument("--secret", required=True, help="whsec_…")
    made.add_argument("--tag", required=True, help="differs between shots, so that ids do")
    made.add_argument("--limit", type=int, default=20_000, help="most messages")
    made.add_argument("--seconds", type=float, default=2.0, help="longest posting")
    made.add_argument("--connections", type=int, default=64)
    made.add_argument("--conversations", type=int, default=1_000)
    made.add_argument("--burst", type=int, default=1, help="messages in a row in one conversation")
    made.add_argument("--event", default="message.created", help="type of the events")
    made.add_argument("--duplicates", type=float, default=0.0, help="share of messages posted twice")
    made.add_argument("--rate", type=float, default=0.0, help="messages a second (open loop)")
    made.add_argument("--window", type=int, default=0, help="most messages without a reply")
    made.add_argument("--receiver", type=int, default=0, help="port of the receiver; 0: acks only")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--patience", type=float, default=3.0, help="seconds without a reply that end the wait")
    uvloop.run(_run(_plan(made.parse_args())))


if __name__ == "__main__":
    main()
