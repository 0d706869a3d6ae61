"""The findings as Markdown, and their place in ``docs/benchmarks.md``."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from benchmarks.cases import ACK, BOT, FASTAPI, RAW, REPLY, Bench, Findings, Spread, spread
from benchmarks.shots import Outcome

FSYNC_PROBES = 50


def fsync_micros(folder: Path) -> float:
    """Return the median microseconds of writing and syncing 4 KiB in ``folder``."""
    path = folder / "fsync-probe"
    took: list[float] = []
    with path.open("wb") as file:
        for _ in range(FSYNC_PROBES):
            before = time.perf_counter()
            file.write(b"x" * 4_096)
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - before)
    path.unlink()
    return median(took) * 1e6


def render(bench: Bench, findings: Findings, folder: Path) -> str:
    """Return the whole section for one database."""
    parts = [_conditions(bench, folder)]
    goals = _goals(findings)
    if goals:
        parts.append(table(("figure", "goal", "stretch", "reached", ""), goals))
    throughput = _throughput(findings)
    if throughput:
        parts.append(
            "Throughput (64 connections; replies: at most 256 unanswered at once). CPU is the server's own, "
            "user and system, from the first message until it was idle again (and what of it fell before the last "
            "acknowledgement).\n\n"
            + table(
                (
                    "system",
                    "messages/s",
                    "CPU µs/message",
                    "until the last ack",
                    "database CPU µs",
                    "ack p50 ms",
                    "ack p99 ms",
                    "right answers",
                    "unanswered",
                ),
                throughput,
            )
        )
    latency = _latency(findings)
    if latency:
        parts.append(
            "From webhook to reply at half of each system's own capacity (random arrivals, counted from "
            "the time a message was due).\n\n"
            + table(("system", "messages/s", "p50 ms", "p99 ms", "longest ms", "CPU µs/message"), latency)
        )
    promises = _promises(findings.promises)
    if promises:
        parts.append(
            "Kept promises: bursts of three in one conversation, a tenth of all messages posted twice.\n\n"
            + table(("system", "messages", "doubled", "out of order", "unanswered"), promises)
        )
    crash = _promises(findings.crash)
    if crash:
        parts.append(
            "Killed (SIGKILL) under load and started again: what became of the acknowledged messages.\n\n"
            + table(("system", "messages", "doubled", "out of order", "never answered"), crash)
        )
    rest = _start_and_memory(findings)
    if rest:
        parts.append(
            table(
                ("system", "start to first reply, s", "MB after start", "MB after 1,000 conversations"), rest
            )
        )
    return "\n\n".join(parts) + "\n"


def place(path: Path, key: str, section: str) -> None:
    """Put ``section`` between the markers of ``key`` in the page at ``path``; both are made if missing."""
    begin, end = f"<!-- {key}: begin -->", f"<!-- {key}: end -->"
    page = path.read_text("utf-8") if path.exists() else "# Benchmarks\n"
    if begin not in page:
        page = page.rstrip("\n") + f"\n\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{begin}\n\n{section}\n{end}{after}", "utf-8")


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach; ``at_least`` says which way is good."""

    title: str
    goal: float
    stretch: float
    at_least: bool
    form: Callable[[float], str]

    def row(self, found: Spread, *, otherwise: bool = False) -> tuple[str, ...]:
        """Return the table row; ``otherwise`` says that the goal is also reached in another way."""
        sign = "≥" if self.at_least else "≤"
        return (
            self.title,
            f"{sign} {self.form(self.goal)}",
            f"{sign} {self.form(self.stretch)}",
            f"**{self.form(found.middle)}** ({self.form(found.low)} to {self.form(found.high)})",
            self._verdict(found.middle, otherwise),
        )

    def _verdict(self, value: float, otherwise: bool) -> str:
        def meets(bound: float) -> bool:
            return value >= bound if self.at_least else value <= bound

        if meets(self.stretch):
            return "stretch reached"
        return "goal reached" if meets(self.goal) or otherwise else "missed"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _times(value: float) -> str:
    return f"{value:.2f}×"


def _millis(value: float) -> str:
    return f"{value:.1f} ms"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _megabytes(value: float) -> str:
    return f"{value:.0f} MB"


def _goals(findings: Findings) -> list[tuple[str, ...]]:
    found: list[tuple[Goal, Spread | None]] = [
        (
            Goal("durable ack, rate against bare raw ASGI", 0.50, 0.65, True, _percent),
            findings.ratios(_ack_rate, findings.ack.get(ACK), findings.ack.get(RAW)),
        ),
        (
            Goal("complete durable reply, CPU against a bare FastAPI 200", 2.5, 1.7, False, _times),
            findings.ratios(_cpu_per_ack, findings.reply.get(REPLY), findings.ack.get(FASTAPI)),
        ),
        (
            Goal("complete durable reply, replies/s against the memory bot", 1.5, 2.0, True, _times),
            findings.ratios(_reply_rate, findings.reply.get(REPLY), findings.reply.get(BOT)),
        ),
        (
            Goal(
                "webhook→reply p99 at half of own capacity, or half the memory bot's",
                50.0,
                25.0,
                False,
                _millis,
            ),
            _maybe([_reply_p99(outcome) for outcome in findings.latency.get(REPLY, [])]),
        ),
        (
            Goal("process start to first durable reply, 1,000 variants", 2.5, 1.5, False, _seconds),
            _maybe(findings.start.get(REPLY, [])),
        ),
        (
            Goal("memory with 1,000 variants, 1,000 conversations", 150.0, 120.0, False, _megabytes),
            _maybe([findings.memory[REPLY][1]] if REPLY in findings.memory else []),
        ),
    ]
    p99_ratio = findings.ratios(_reply_p99, findings.latency.get(REPLY), findings.latency.get(BOT))
    halved = p99_ratio is not None and p99_ratio.middle <= 0.5
    rows = [
        goal.row(value, otherwise=halved and goal.form is _millis)
        for goal, value in found
        if value is not None
    ]
    for title, value in (
        (
            "durable ack, CPU against bare raw ASGI",
            findings.ratios(_cpu_per_ack, findings.ack.get(ACK), findings.ack.get(RAW)),
        ),
        (
            "durable ack, rate against a bare FastAPI 200",
            findings.ratios(_ack_rate, findings.ack.get(ACK), findings.ack.get(FASTAPI)),
        ),
        (
            "complete durable reply, CPU against the memory bot",
            findings.ratios(_cpu_per_ack, findings.reply.get(REPLY), findings.reply.get(BOT)),
        ),
        (
            "webhook→reply p99 against the memory bot, each at half of its own capacity",
            p99_ratio,
        ),
    ):
        if value is not None:
            rows.append(
                (title, "", "", f"{_times(value.middle)} ({_times(value.low)} to {_times(value.high)})", "")
            )
    return rows


def _maybe(values: list[float]) -> Spread | None:
    return spread(values) if values else None


def _ack_rate(outcome: Outcome) -> float:
    return outcome.figures["ack_rate"]


def _reply_rate(outcome: Outcome) -> float:
    return outcome.figures["reply_rate"]


def _reply_p99(outcome: Outcome) -> float:
    return outcome.figures["reply_p99_ms"]


def _cpu_per_ack(outcome: Outcome) -> float:
    return outcome.micros()


def _throughput(findings: Findings) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, outcomes in [*findings.ack.items(), *findings.reply.items()]:
        replies = name in findings.reply
        rate = _reply_rate if replies else _ack_rate
        database = [micros for outcome in outcomes if (micros := outcome.database_micros()) is not None]
        rows.append(
            (
                name,
                _spread([rate(outcome) for outcome in outcomes], ",.0f"),
                _spread([outcome.micros() for outcome in outcomes], ",.0f"),
                f"{median(o.cpu_to_last_ack / o.figures['acked'] * 1e6 for o in outcomes):,.0f}",
                _spread(database, ",.0f") if database else "–",
                _spread([outcome.figures["ack_p50_ms"] for outcome in outcomes], ".1f"),
                _spread([outcome.figures["ack_p99_ms"] for outcome in outcomes], ".1f"),
                f"{median(o.figures['right_share'] for o in outcomes):.1%}" if replies else "–",
                f"{sum(o.figures['unanswered'] for o in outcomes)}" if replies else "–",
            )
        )
    return rows


def _latency(findings: Findings) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{findings.latency_rate[name]:,.0f}",
            _spread([outcome.figures["reply_p50_ms"] for outcome in outcomes], ".1f"),
            _spread([outcome.figures["reply_p99_ms"] for outcome in outcomes], ".1f"),
            _spread([outcome.figures["reply_max_ms"] for outcome in outcomes], ".1f"),
            _spread([outcome.micros() for outcome in outcomes], ",.0f"),
        )
        for name, outcomes in findings.latency.items()
    ]


def _promises(outcomes: dict[str, Outcome]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{outcome.figures['acked']:,}",
            str(outcome.figures["doubled"]),
            str(outcome.figures["disordered"]),
            str(outcome.figures["unanswered"]),
        )
        for name, outcome in outcomes.items()
    ]


def _start_and_memory(findings: Findings) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys([*findings.start, *findings.memory]):
        before, after = findings.memory.get(name, (None, None))
        rows.append(
            (
                name,
                _spread(findings.start[name], ".2f") if name in findings.start else "–",
                "–" if before is None else f"{before:.0f}",
                "–" if after is None else f"{after:.0f}",
            )
        )
    return rows


def _spread(values: list[float], form: str) -> str:
    found = spread(values)
    return f"{found.middle:{form}} ({found.low:{form}} to {found.high:{form}})"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _conditions(bench: Bench, folder: Path) -> str:
    database = "PostgreSQL" if bench.on_postgres else "SQLite"
    return (
        f"{machine(folder)} {database}. {bench.rounds} rounds of {bench.seconds:g} s for each system in turn, after a "
        "warm-up; one server process each, with the load generator and the receiver on the same cores. Median (least to "
        "greatest); ratios are taken round by round."
    )


def machine(folder: Path) -> str:
    """Return a sentence on when and on what this was measured; ``folder`` is on the disk that counts."""
    packages = ", ".join(f"{name} {_version(name)}" for name in ("uvicorn", "uvloop", "fastapi", "rapidfuzz"))
    return (
        f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())}: {os.cpu_count()} cores ({_cpu_model()}), "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {packages}; "
        f"a synced write of 4 KiB takes {fsync_micros(folder):,.0f} µs on this disk."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
