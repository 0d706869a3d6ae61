"""Two processes beside one, on PostgreSQL: ``.venv/bin/python -m benchmarks.many --database-url postgresql://…``.

Three questions:

- does a second process serialise on anything? Throughput, and where cores are short CPU per message, of one process and
  of two over the same database, in turn within each round; the messages land on either, whoever owns their
  conversation;
- how soon do a killed process's conversations go on? Messages come in at a low rate, one process is killed, and the
  reply that takes longest tells;
- what does taking work from the database in order cost, against the bare loop that does nothing else?

See README.md for what is run and how CPU is counted.
"""

import argparse
import asyncio
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cases import WINDOW, Spread, running, spread
from benchmarks.dequeue import DequeueSpeed, measure_dequeue
from benchmarks.report import machine, place, table
from benchmarks.shots import Aim, Outcome, fire
from benchmarks.systems import ROOT, Huoji, Receiver, SetupError, open_workshop

SHOT_RATE = 4_000.0
"""Messages a second that a shot has ready: more than two processes answer."""
RESUME_RATE = 60.0
RESUME_SECONDS = 12.0
KILL_AFTER_SECONDS = 2.0


@dataclass(slots=True)
class Found:
    """Everything measured, one item a round."""

    one: list[Outcome] = field(default_factory=list[Outcome])
    two: list[Outcome] = field(default_factory=list[Outcome])
    resumed: list[Outcome] = field(default_factory=list[Outcome])
    dequeue: list[DequeueSpeed] = field(default_factory=list[DequeueSpeed])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _throughput(first: Huoji, second: Huoji, receiver: Receiver, seconds: float) -> Outcome:
    aim = Aim(first.path, seconds, int(SHOT_RATE * seconds), window=WINDOW, replies=True)
    beside = [] if second is first else [second]
    return fire(first, receiver, aim, beside=beside, watch_database=True)


def _resume(first: Huoji, second: Huoji, receiver: Receiver) -> Outcome:
    aim = Aim(
        first.path, RESUME_SECONDS, int(RESUME_RATE * RESUME_SECONDS), rate=RESUME_RATE, replies=True,
        patience=10.0,
    )  # fmt: skip

    def kill() -> None:
        time.sleep(KILL_AFTER_SECONDS)
        second.kill()

    return fire(first, receiver, aim, meanwhile=kill)


def _measure(first: Huoji, receiver: Receiver, rounds: int, seconds: float, database_url: str) -> Found:
    found = Found()
    second = first.sibling("huoji-2")
    with running([first]):
        _throughput(first, first, receiver, seconds)  # warms up
    for number in range(rounds):
        _say(f"round {number + 1} of {rounds}")
        shots = [("one process", found.one, [first]), ("two processes", found.two, [first, second])]
        for name, kept, servers in shots if number % 2 == 0 else reversed(shots):
            with running(list(servers)):
                _warm_up(servers)
                kept.append(_throughput(servers[0], servers[-1], receiver, seconds))
            _say(f"  {name:16} {kept[-1].figures['reply_rate']:8.0f} replies/s  {kept[-1].micros():6.0f} µs")
        with running([first, second]):
            _warm_up([first, second])
            found.resumed.append(_resume(first, second, receiver))
        _say(f"  killed: longest reply {found.resumed[-1].figures['reply_max_ms'] / 1e3:.1f} s")
        found.dequeue.append(asyncio.run(measure_dequeue(database_url)))
        _say(f"  dequeue: {found.dequeue[-1]}")
    return found


def _warm_up(servers: list[Huoji]) -> None:
    # Until partitions are shared out: a process claims its share within two looks at the others, one a second.
    time.sleep(3.0 if len(servers) > 1 else 0.5)


def _spread(outcomes: list[Outcome], name: str, scale: float = 1.0) -> Spread:
    return spread([outcome.figures[name] * scale for outcome in outcomes])


def _text(found: Spread, digits: int = 0) -> str:
    return f"{found.middle:,.{digits}f} ({found.low:,.{digits}f} to {found.high:,.{digits}f})"


def _render(found: Found, folder: Path, rounds: int, seconds: float, redis: bool) -> str:
    def row(name: str, outcomes: list[Outcome]) -> tuple[str, ...]:
        return (
            name,
            _text(_spread(outcomes, "reply_rate")),
            _text(spread([outcome.micros("answered") for outcome in outcomes])),
            _text(spread([outcome.database_micros("answered") or 0.0 for outcome in outcomes])),
            _text(_spread(outcomes, "reply_p99_ms")),
            *(str(sum(outcome.figures[name] for outcome in outcomes)) for name in ("unanswered", "doubled", "disordered")),
        )  # fmt: skip

    head = ("system", "replies/s", "CPU µs/message", "database CPU µs/message", "p99 ms", "unanswered", "doubled", "out of order")  # fmt: skip
    added = spread(
        [
            b.figures["reply_rate"] / a.figures["reply_rate"] - 1
            for a, b in zip(found.one, found.two, strict=True)
        ]
    )
    dearer = spread(
        [b.micros("answered") / a.micros("answered") for a, b in zip(found.one, found.two, strict=True)]
    )
    share = spread([one.ours / one.bare for one in found.dequeue])
    figures = [
        ("the second process adds, of the first's replies/s", "≥ 80 %", f"{added.middle:.0%} ({added.low:.0%} to {added.high:.0%})"),
        ("CPU per message of two processes against one", "near 1×", f"{_text(dearer, 2)}×"),
        ("database CPU per message, one process", "≤ 40 µs", _text(spread([o.database_micros("answered") or 0.0 for o in found.one]))),
        ("ordered dequeue against the bare partition-owner loop", "≥ 90 %", f"{share.middle:.0%} ({share.low:.0%} to {share.high:.0%})"),
        ("longest reply when the other process is killed", "≤ 6 s", f"{_text(_spread(found.resumed, 'reply_max_ms', 1e-3), 1)} s"),
    ]  # fmt: skip
    return "\n\n".join(
        (
            (f"{machine(folder)} PostgreSQL{' and Redis' if redis else ', no Redis'}. {rounds} rounds of {seconds:g} s; both "
            "processes, PostgreSQL, the load generator and the receiver share the cores, so where there are two of them "
            "a second process can't add replies and CPU per message is the figure."),
            table(("figure", "goal", "reached"), figures),
            table(head, [row("one process", found.one), row("two processes", found.two), row("one of two killed", found.resumed)]),
        )
    )  # fmt: skip


def main() -> int:
    """Run the comparison; 1 when a server couldn't be set up."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--database-url", required=True, help="an empty PostgreSQL database")
    made.add_argument("--redis-url", help="without one the processes poll")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--seconds", type=float, default=3.0, help="length of one shot")
    made.add_argument("--out", type=Path, help="page whose section is replaced, such as docs/benchmarks.md")
    made.add_argument("--huoji", type=Path, default=ROOT / ".venv/bin/huoji", help="the program to measure")
    made.add_argument(
        "--folder", type=Path, default=ROOT / "var/benchmarks", help="work folder, emptied first"
    )
    arguments = made.parse_args()
    folder: Path = arguments.folder
    shutil.rmtree(folder, ignore_errors=True)
    receiver = Receiver()
    try:
        workshop = open_workshop(folder.resolve(), receiver.port)
        first = Huoji(arguments.huoji, workshop, arguments.database_url, arguments.redis_url)
        first.prepare()
        found = _measure(first, receiver, arguments.rounds, arguments.seconds, arguments.database_url)
        section = _render(found, folder, arguments.rounds, arguments.seconds, bool(arguments.redis_url))
    except SetupError as error:
        print(f"benchmark stopped: {error}", file=sys.stderr)
        return 1
    finally:
        receiver.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(section)
    if arguments.out:
        place(arguments.out, "many", section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
