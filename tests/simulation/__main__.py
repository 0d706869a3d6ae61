# ruff: noqa: T201 - it is a command
"""``python -m tests.simulation``: run seeds, or look at one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from tests.simulation.running import report, simulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds to run (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after so many seconds")
    parser.add_argument("--seed", type=int, help="run only this one, as it is")
    parser.add_argument("--without", default="", help="numbers of the plan's steps to leave out, with commas")
    parser.add_argument("--trace", action="store_true", help="print everything that happened")
    parser.add_argument(
        "--smaller", action="store_true", help="with --seed: leave out what isn't needed to fail"
    )
    parser.add_argument("--go-on", action="store_true", help="don't stop at the first failing seed")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        without = [int(number) for number in chosen.without.split(",") if number]
        with simulator() as simulating:
            if chosen.smaller:
                without, run = simulating.make_smaller(chosen.seed)
            else:
                run = simulating.run(chosen.seed, without=without)
        print(report(chosen.seed, without, run, with_trace=chosen.trace))
        return 1 if run.findings else 0
    return _run_many(chosen)


def _run_many(chosen: argparse.Namespace) -> int:
    failed: list[int] = []
    began = time.perf_counter()
    done = messages = 0
    virtual = 0.0
    with simulator() as simulating:
        for seed in range(chosen.first, chosen.first + chosen.seeds):
            run = simulating.run(seed)
            done += 1
            messages += run.counts["messages"]
            virtual += run.seconds
            if run.findings:
                failed.append(seed)
                if chosen.go_on:
                    print(report(seed, (), run, with_trace=False), flush=True)
                else:
                    without, smaller = simulating.make_smaller(seed)
                    print(report(seed, without, smaller, with_trace=True), flush=True)
                    break
            if chosen.seconds is not None and time.perf_counter() - began > chosen.seconds:
                break
            if done % 500 == 0:
                print(f"{done} seeds, {done / (time.perf_counter() - began):.1f} a second", flush=True)
    seconds = time.perf_counter() - began
    print(
        f"{done} seeds from {chosen.first} in {seconds:.1f} s ({done / seconds:.1f} a second): {messages} messages,"
        f" {virtual / 3600:.1f} virtual hours, {len(failed)} failed {failed or ''}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of texts is chance as well, and must be the seed's.
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
                  {**os.environ, "PYTHONHASHSEED": "0"})  # fmt: skip
    sys.exit(main())
