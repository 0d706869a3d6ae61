"""Runs the whole comparison and prints it: ``.venv/bin/python -m benchmarks.run``.

Starts every server itself, talks to 127.0.0.1 only, and stops by itself; see README.md.
"""

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.cases import (
    Bench,
    Findings,
    measure_crash,
    measure_latency,
    measure_memory,
    measure_promises,
    measure_start,
    measure_throughput,
)
from benchmarks.report import place, render
from benchmarks.systems import ROOT, Baseline, Huoji, Receiver, SetupError, Workshop, open_workshop

CASES = ("ack", "reply", "latency", "promises", "crash", "start", "memory")


def _arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=2.0, help="length of one shot")
    made.add_argument(
        "--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES)
    )
    made.add_argument("--database-url", help="an empty PostgreSQL database; default: a fresh SQLite file")
    made.add_argument("--out", type=Path, help="page whose section is replaced, such as docs/benchmarks.md")
    made.add_argument("--huoji", type=Path, default=ROOT / ".venv/bin/huoji", help="the program to measure")
    made.add_argument("--baselines-only", action="store_true", help="measure without Huoji")
    made.add_argument(
        "--folder", type=Path, default=ROOT / "var/benchmarks", help="work folder, emptied first"
    )
    made.add_argument("--keep", action="store_true", help="keep the work folder with logs and database")
    return made.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _bench(arguments: argparse.Namespace, workshop: Workshop, receiver: Receiver) -> Bench:
    huoji = None
    if not arguments.baselines_only:
        if not arguments.huoji.exists():
            raise SetupError(f"{arguments.huoji} is missing: run `make setup`, or pass --baselines-only")
        huoji = Huoji(arguments.huoji, workshop, arguments.database_url)
        huoji.prepare()
    return Bench(
        raw=Baseline("raw-asgi", "benchmarks.baselines.raw_asgi", workshop),
        fastapi=Baseline("bare-fastapi", "benchmarks.baselines.bare_fastapi", workshop),
        bot=Baseline("memory-bot", "benchmarks.baselines.memory_bot", workshop, answers=True),
        huoji=huoji,
        receiver=receiver,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        on_postgres=bool(arguments.database_url and arguments.database_url.startswith("postgres")),
        say=_say,
    )


def _measure(bench: Bench, cases: list[str]) -> Findings:
    findings = Findings()
    # Start and memory come first: they want a database and a process without a past.
    if "start" in cases:
        _say("start: seconds from process start to the first reply")
        measure_start(bench, findings)
    if "memory" in cases:
        _say("memory: before and after 1,000 conversations")
        measure_memory(bench, findings)
    replies = "reply" in cases or "latency" in cases
    if "ack" in cases or replies:
        _say("throughput: acknowledgements and replies")
        measure_throughput(bench, findings, acks="ack" in cases, replies=replies)
    if "latency" in cases:
        _say("latency: at half of own capacity")
        measure_latency(bench, findings)
    if "promises" in cases:
        _say("promises: bursts and duplicates")
        measure_promises(bench, findings)
    if "crash" in cases:
        _say("crash: killed under load and started again")
        measure_crash(bench, findings)
    return findings


def main() -> int:
    """Run the comparison; 1 when a server couldn't be set up."""
    arguments = _arguments()
    folder: Path = arguments.folder
    shutil.rmtree(folder, ignore_errors=True)
    receiver = Receiver()
    try:
        workshop = open_workshop(folder.resolve(), receiver.port)
        bench = _bench(arguments, workshop, receiver)
        findings = _measure(bench, arguments.only)
        section = render(bench, findings, folder)
    except SetupError as error:
        print(f"benchmark stopped: {error}", file=sys.stderr)
        return 1
    finally:
        receiver.stop()
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(section)
    if arguments.out:
        place(arguments.out, "postgresql" if bench.on_postgres else "sqlite", section)
    return 0


if __name__ == "__main__":
    sys.exit(main())
