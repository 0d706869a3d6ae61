"""One shot: the load generator fired at one server, with the server's CPU time taken around it."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from benchmarks.processes import cpu_seconds, postgres_cpu_seconds, settle
from benchmarks.systems import ROOT, Receiver, Server, SetupError

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Aim:
    """What a shot does; see ``load.py`` for the pacing."""

    path: str
    seconds: float
    limit: int
    connections: int = 64
    window: int = 0
    rate: float = 0.0
    burst: int = 1
    duplicates: float = 0.0
    conversations: int = 1_000
    replies: bool = False
    patience: float = 3.0
    event: str = "message.created"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a shot found."""

    figures: dict[str, Any]
    cpu_seconds: float
    """CPU of the server from the first message until it was idle again."""
    cpu_to_last_ack: float
    """The same until the last acknowledgement."""
    database_cpu_seconds: float | None
    client_cpu_seconds: float
    """CPU of the load generator while posting, and of the receiver."""

    def micros(self, per: str = "acked") -> float:
        """Return the server's CPU per message in microseconds."""
        return self.cpu_seconds / max(self.figures[per], 1) * 1e6

    def database_micros(self, per: str = "acked") -> float | None:
        """Return the database's CPU per message in microseconds, when it is known."""
        if self.database_cpu_seconds is None:
            return None
        return self.database_cpu_seconds / max(self.figures[per], 1) * 1e6


def control(receiver: Receiver, target: str, method: str = "GET") -> dict[str, Any]:
    """Ask the receiver."""
    connection = HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    try:
        connection.request(method, f"/control/{target}")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def fire(
    server: Server,
    receiver: Receiver,
    aim: Aim,
    *,
    beside: Sequence[Server] = (),
    watch_database: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Outcome:
    """Fire one shot and return what it found; ``meanwhile`` runs once while messages are being posted.

    ``beside``: more processes of the same system, which share the messages and whose CPU counts.
    """
    servers = (server, *beside)
    for one in servers:
        one.check_alive()
    control(receiver, "reset", "POST")
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", *_arguments(servers, receiver, aim)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _expect(process, "ready")
        return _measure(process, servers, receiver, _database_clock(watch_database), meanwhile)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _database_clock(watch: bool) -> Callable[[], float | None]:
    return postgres_cpu_seconds if watch else lambda: None


def _measure(
    process: "subprocess.Popen[str]",
    servers: Sequence[Server],
    receiver: Receiver,
    database: Callable[[], float | None],
    meanwhile: Callable[[], None] | None,
) -> Outcome:
    pids = [server.pid for server in servers]

    def spent_by_servers() -> float:
        return sum(cpu_seconds(pid) for pid in pids)

    def come_to_rest() -> None:
        for pid in pids:
            settle(pid)

    come_to_rest()
    database_before = database()
    before = spent_by_servers()
    client_before = cpu_seconds(process.pid) + cpu_seconds(receiver.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    if meanwhile is not None:
        meanwhile()
    _expect(process, "posted")
    at_last_ack = spent_by_servers()
    client = cpu_seconds(process.pid) + cpu_seconds(receiver.pid) - client_before
    figures = json.loads(process.stdout.readline())
    come_to_rest()
    database_after = database()
    spent = None if database_before is None or database_after is None else database_after - database_before
    return Outcome(figures, spent_by_servers() - before, at_last_ack - before, spent, client)


def _expect(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if line != word:
        raise SetupError(f"the load generator said {line!r} instead of {word!r}")


def _arguments(servers: Sequence[Server], receiver: Receiver, aim: Aim) -> list[str]:
    number = next(_numbers)
    values: dict[str, object] = {
        "path": aim.path,
        "secret": servers[0].workshop.secret,
        # Unlike in any other run, should the database be an old one.
        "tag": f"{time.time_ns() // 1_000_000:x}-{number}",
        "limit": aim.limit,
        "seconds": aim.seconds,
        "connections": aim.connections,
        "conversations": aim.conversations,
        "burst": aim.burst,
        "duplicates": aim.duplicates,
        "rate": aim.rate,
        "window": aim.window,
        "receiver": receiver.port if aim.replies else 0,
        "seed": number,
        "patience": aim.patience,
        "event": aim.event,
    }
    ports = [str(server.port) for server in servers]
    return ["--port", *ports] + [part for name, value in values.items() for part in (f"--{name}", str(value))]
