"""Runs the test suites, each in a pytest process of its own: `python scripts/run_suites.py [SUITE …]`.

Apart, because playwright's synchronous fixtures and pytest-asyncio can't share a process, and because the chaos suite
wants the machine to itself; those of the main and the e2e suite run several at once. All suites run even when one fails. Ends with what could not run, and the totals.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_NO_BROWSER_PLUGIN = ["-p", "no:playwright"]
_ON_ALL_CORES = ["-n", "auto", "--maxprocesses", "4", "--dist", "worksteal"]
SUITES = {
    "main": ["tests", "--ignore=tests/chaos", "--ignore=tests/e2e", *_NO_BROWSER_PLUGIN, *_ON_ALL_CORES],
    "chaos": ["tests/chaos", *_NO_BROWSER_PLUGIN],
    "e2e": ["tests/e2e", "-m", "not browser", *_ON_ALL_CORES],
    "browser": ["tests/e2e", "-m", "browser"],
}
KINDS = ("failed", "error", "passed", "skipped", "xfailed")
NOTHING_COLLECTED = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one suite went: pytest's exit status, tests by kind, tests by missing program."""

    suite: str
    status: int
    seconds: float
    counts: dict[str, int]
    lacking: dict[str, int]

    def line(self) -> str:
        """The outcome as a line of the closing table."""
        counts = ", ".join(f"{self.counts[kind]} {kind}" for kind in KINDS if self.counts.get(kind))
        result = "ok" if self.status == 0 else "FAILED"
        if self.status == NOTHING_COLLECTED:
            counts = "no tests found"
        return f"{self.suite:8} {result:7} {counts} in {self.seconds:.1f}s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named suites, or all; returns 0 when every one passed."""
    parser = argparse.ArgumentParser(description="Run Huoji's test suites.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; default: all")
    chosen: list[str] = parser.parse_args(arguments).suites or list(SUITES)
    unknown = [suite for suite in chosen if suite not in SUITES]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    outcomes = [run(suite) for suite in chosen]
    report(outcomes)
    return 0 if all(outcome.status == 0 for outcome in outcomes) else 1


def run(suite: str) -> Outcome:
    """Run one suite with its output going straight through."""
    print(f"\n--- {suite} ---", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="huoji-suite-") as folder:
        target = Path(folder) / "report.json"
        environment = {**os.environ, "HUOJI_SUITE_REPORT": str(target)}
        command = [sys.executable, "-m", "pytest", *SUITES[suite]]
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        found = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    seconds = time.monotonic() - began
    return Outcome(suite, status, seconds, found.get("counts", {}), found.get("lacking", {}))


def report(outcomes: Sequence[Outcome]) -> None:
    """Print what could not run, then each suite's line, then the totals as pytest writes them."""
    lacking: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for outcome in outcomes:
        lacking.update(outcome.lacking)
        totals.update({kind: outcome.counts.get(kind, 0) for kind in KINDS})
    print()
    for program, number in sorted(lacking.items()):
        print(f"!!! NOT RUN: {number} tests, for lack of {program}")
    for outcome in outcomes:
        print(outcome.line())
    counts = ", ".join(f"{totals[kind]} {kind}" for kind in KINDS if totals[kind]) or "no tests"
    print(f"===== {counts} in {sum(outcome.seconds for outcome in outcomes):.2f}s =====", flush=True)


if __name__ == "__main__":
    sys.exit(main())
