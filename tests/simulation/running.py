"""Running seeds one after the other, making failing plans smaller, and printing what happened."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Collection, Iterator

import structlog

from app.core.metrics import Metrics
from tests.simulation.plan import make_plan
from tests.simulation.rows import Rows
from tests.simulation.world import Run, run_plan

__all__ = ["Simulator", "simulator"]


RUNS_A_COLLECTION = 10
"""A run leaves little behind; looking for it in its midst costs more than the run's own work."""


class Simulator:
    """Runs seeds; make one with ``simulator``."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._metrics = Metrics()
        self._runs = 0

    def run(self, seed: int, *, without: Collection[int] = ()) -> Run:
        """Run one seed, leaving out some steps of its plan."""
        self._runs += 1
        if self._runs % RUNS_A_COLLECTION == 0:
            gc.collect()
        return run_plan(seed, make_plan(seed), self._rows, self._metrics, without=without)

    def make_smaller(self, seed: int) -> tuple[list[int], Run]:
        """Leave out what isn't needed for a failing seed to fail; return the numbers of those steps, and the run."""
        plan = make_plan(seed)
        without: list[int] = []
        run = self.run(seed)
        size = max(1, len(plan.steps) // 2)
        while size >= 1:
            left = [number for number in range(len(plan.steps)) if number not in without]
            for start in range(0, len(left), size):
                tried = [*without, *left[start : start + size]]
                smaller = self.run(seed, without=tried)
                if smaller.findings:
                    without, run = tried, smaller
            size //= 2
        return sorted(without), run


def report(seed: int, without: Collection[int], run: Run, *, with_trace: bool) -> str:
    """Tell how a run went."""
    plan = make_plan(seed)
    left = ",".join(map(str, without))
    lines = [f"seed {seed}: {len(run.findings)} findings after {run.seconds:.1f} virtual seconds"]
    lines += [f"  {finding}" for finding in run.findings]
    lines.append(
        f"plan: {plan.processes} processes, clocks off by {plan.skews_ms} ms, rates {plan.rates},"
        f" quiet time {plan.burst_quiet} s, hints lost {plan.hints_lost:.0%}"
    )
    lines += [f"  [{number}] {step}" for number, step in enumerate(plan.steps) if number not in without]
    if with_trace:
        lines.append("trace:")
        lines += [f"  {at:8.4f} {' '.join(map(str, what))}" for at, what in run.trace]
    replay = f"python -m tests.simulation --seed {seed} --trace" + (f" --without {left}" if left else "")
    lines.append(f"replay: {replay}")
    return "\n".join(lines)


@contextlib.contextmanager
def simulator() -> Iterator[Simulator]:
    """Make a simulator, with the program's logging switched off meanwhile."""
    rows = Rows()
    configuration = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    collects = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield Simulator(rows)
    finally:
        structlog.configure(**configuration)
        rows.close()
        gc.unfreeze()
        if collects:
            gc.enable()
