"""The cases of the comparison, each measured in rounds that take the systems in turn.

Within a round every system is shot at once, in an order that alternates between rounds, so that a
slow minute of the machine hits all of them alike. Ratios are taken within a round.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median

from benchmarks.first_reply import post_until_acknowledged
from benchmarks.processes import resident_mb, settle
from benchmarks.shots import Aim, Outcome, control, fire
from benchmarks.systems import Baseline, Huoji, Receiver, Server, SetupError

RAW, FASTAPI, BOT, REPLY = "raw ASGI", "bare FastAPI", "memory bot", "Huoji, reply"
ACK, SILENT = "Huoji, durable ack", "Huoji, ack and silent turn"
STORED_EVENT = "benchmark.stored"
"""A type no marketplace sends: verified, parsed, deduplicated and stored like any other, and followed by nothing."""
WINDOW = 256
"""Most unanswered messages while capacity is measured: full lanes, no endless backlog."""
FIRST_REPLY_SECONDS = 30.0
MEMORY_CONVERSATIONS = 1_000


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of one figure over the rounds."""

    middle: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Return the spread of ``values``."""
    return Spread(median(values), min(values), max(values))


@dataclass(slots=True)
class Findings:
    """Everything measured, by case and system, one item per round."""

    ack: dict[str, list[Outcome]] = field(default_factory=dict[str, list[Outcome]])
    reply: dict[str, list[Outcome]] = field(default_factory=dict[str, list[Outcome]])
    latency: dict[str, list[Outcome]] = field(default_factory=dict[str, list[Outcome]])
    latency_rate: dict[str, float] = field(default_factory=dict[str, float])
    promises: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    crash: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    start: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    memory: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Resident 10^6 bytes: after start, and after 1,000 conversations."""

    def ratios(
        self, figure: Callable[[Outcome], float], over: list[Outcome] | None, under: list[Outcome] | None
    ) -> Spread | None:
        """Return the spread of ``over / under`` round by round, or None when one is missing."""
        if not over or not under:
            return None
        return spread([figure(a) / figure(b) for a, b in zip(over, under, strict=True) if figure(b)])


@dataclass(frozen=True, slots=True)
class Bench:
    """The systems under test and how long to look at them; ``huoji`` is None when it isn't there."""

    raw: Baseline
    fastapi: Baseline
    bot: Baseline
    huoji: Huoji | None
    receiver: Receiver
    rounds: int
    seconds: float
    on_postgres: bool
    say: Callable[[str], None]

    def repliers(self) -> list[tuple[str, Server]]:
        """Return the systems that answer messages."""
        return [(BOT, self.bot), *([(REPLY, self.huoji)] if self.huoji else [])]

    def servers(self) -> list[Server]:
        """Return all servers."""
        return [self.raw, self.fastapi, self.bot, *([self.huoji] if self.huoji else [])]

    def limit(self, per_second: float) -> int:
        """Return how many messages a shot needs at a rate."""
        return int(per_second * self.seconds) + 1_000

    def shoot(
        self, name: str, server: Server, aim: Aim, meanwhile: Callable[[], None] | None = None
    ) -> Outcome:
        """Fire once and say what came out; ``meanwhile`` runs during the shot."""
        watch = self.on_postgres and server is self.huoji
        found = fire(server, self.receiver, aim, watch_database=watch, meanwhile=meanwhile)
        figures = found.figures
        said = f"  {name:16} {figures['ack_rate']:8.0f} acks/s  {found.micros():6.0f} µs"
        if aim.replies:
            said += (
                f"  {figures['reply_rate']:7.0f} replies/s  p99 {figures['reply_p99_ms']:7.1f} ms"
                f"  unanswered {figures['unanswered']}  right {figures['right_share']:.1%}"
            )
        refused = {status: count for status, count in figures["statuses"].items() if status != "200"}
        if refused:
            said += f"  other answers {refused}"
        self.say(said)
        return found


@contextlib.contextmanager
def running(servers: list[Server]) -> Iterator[None]:
    """Run ``servers`` together."""
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.stop()


def measure_throughput(bench: Bench, findings: Findings, *, acks: bool, replies: bool) -> None:
    """Measure acknowledgements and complete replies a second, and the CPU of each."""
    rate = {RAW: 25_000.0, FASTAPI: 8_000.0, BOT: 4_000.0, ACK: 16_000.0, SILENT: 8_000.0, REPLY: 6_000.0}
    shots: list[tuple[str, Server, Aim]] = []

    def add(name: str, server: Server, path: str, *, answers: bool = False) -> None:
        window = WINDOW if answers else 0
        event = STORED_EVENT if name == ACK else "message.created"
        limit = bench.limit(rate[name])
        shots.append(
            (name, server, Aim(path, bench.seconds, limit, window=window, replies=answers, event=event))
        )

    if acks:
        add(RAW, bench.raw, bench.raw.path)
        if bench.huoji:
            add(ACK, bench.huoji, bench.huoji.silent_path)
            add(SILENT, bench.huoji, bench.huoji.silent_path)
    add(FASTAPI, bench.fastapi, bench.fastapi.path)
    if replies:
        for name, server in bench.repliers():
            add(name, server, server.path, answers=True)
    with running(bench.servers()):
        for number in range(bench.rounds + 1):
            bench.say("warm-up" if not number else f"round {number} of {bench.rounds}")
            for name, server, aim in shots if number % 2 else reversed(shots):
                found = bench.shoot(name, server, aim)
                if number:
                    kept = findings.reply if aim.replies else findings.ack
                    kept.setdefault(name, []).append(found)


def measure_latency(bench: Bench, findings: Findings) -> None:
    """Measure the time from webhook to reply at half of each system's own capacity."""
    systems = bench.repliers()
    for name, _ in systems:
        rates = [outcome.figures["reply_rate"] for outcome in findings.reply[name]]
        findings.latency_rate[name] = median(rates) / 2
    with running([server for _, server in systems]):
        for number in range(bench.rounds + 1):
            bench.say("warm-up" if not number else f"round {number} of {bench.rounds}")
            for name, server in systems if number % 2 else reversed(systems):
                rate = findings.latency_rate[name]
                aim = Aim(server.path, bench.seconds, bench.limit(rate * 1.5), rate=rate, replies=True)
                found = bench.shoot(name, server, aim)
                if number:
                    findings.latency.setdefault(name, []).append(found)


def measure_promises(bench: Bench, findings: Findings) -> None:
    """Post bursts of three with a tenth of the messages posted twice, and count what went wrong."""
    systems = bench.repliers()
    with running([server for _, server in systems]):
        for name, server in systems:
            aim = Aim(
                server.path,
                bench.seconds,
                bench.limit(4_000),
                window=WINDOW,
                burst=3,
                duplicates=0.1,
                replies=True,
            )
            findings.promises[name] = bench.shoot(name, server, aim)


def measure_crash(bench: Bench, findings: Findings) -> None:
    """Kill each system under load, start it again, and count the acknowledged messages without a reply."""
    for name, server in bench.repliers():
        aim = Aim(
            server.path,
            bench.seconds,
            bench.limit(4_000),
            window=WINDOW,
            replies=True,
            # The new process must first start; only then can replies go on.
            patience=15.0,
        )

        def crash(server: Server = server) -> None:
            time.sleep(bench.seconds / 2)
            server.kill()
            server.start()

        with running([server]):
            findings.crash[name] = bench.shoot(name, server, aim, crash)


def measure_start(bench: Bench, findings: Findings) -> None:
    """Measure the seconds from process start to the first reply at the receiver."""
    for number in range(min(bench.rounds, 5)):
        bench.say(f"round {number + 1}")
        for name, server in bench.repliers():
            try:
                seconds = _first_reply(bench, server)
            finally:
                server.stop()
            findings.start.setdefault(name, []).append(seconds)
            bench.say(f"  {name:16} {seconds:6.2f} s to the first reply")


def _first_reply(bench: Bench, server: Server) -> float:
    control(bench.receiver, "reset", "POST")
    spawned = server.spawn()
    end = spawned + FIRST_REPLY_SECONDS
    post_until_acknowledged(server, end)
    while time.monotonic() < end:
        stats = control(bench.receiver, "stats")
        if stats["answered"]:
            return float(stats["last_arrival"]) - spawned
        time.sleep(0.01)
    raise SetupError(f"{server.name} sent no reply in {FIRST_REPLY_SECONDS:.0f} s:\n{server.tail()}")


def measure_memory(bench: Bench, findings: Findings) -> None:
    """Measure resident memory before and after one message in each of 1,000 conversations."""
    for name, server in bench.repliers():
        with running([server]):
            settle(server.pid)
            before = resident_mb(server.pid)
            aim = Aim(server.path, 20.0, MEMORY_CONVERSATIONS, window=WINDOW, replies=True)
            bench.shoot(name, server, aim)
            findings.memory[name] = (before, resident_mb(server.pid))
            bench.say(f"  {name:16} {before:.0f} MB, then {findings.memory[name][1]:.0f} MB")
