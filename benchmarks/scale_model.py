"""What `simulate_scale.py` computes with: measured costs, a day's demand, and queues that messages pass one by one.

Nothing here runs Huoji. Costs come from ``docs/benchmarks.md``; the demand is a model, and where a figure of it has no
source it is marked as an assumption, to be replaced by your own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Costs",
    "Day",
    "Demand",
    "Limits",
    "Messages",
    "Topology",
    "make_messages",
    "read_costs",
    "shop_sizes",
    "shops_by_database",
    "wait_in_line",
]

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

PARTITIONS = 64
"""Of one database. Source: decision 2."""

DAY_BEGINS_HOUR = 20
"""Hour of the eve at which the modelled day begins; it ends 28 hours later, at midnight."""

DAY_SECONDS = 28 * 3600
MIDNIGHT = (24 - DAY_BEGINS_HOUR) * 3600

_ACK, _TURN, _REPLY = "Huoji, durable ack", "Huoji, ack and silent turn", "Huoji, reply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one message costs. Microseconds of CPU; `process_*` of a Huoji process, `database_us` of PostgreSQL."""

    ack_us: float
    """Verify, store, answer the webhook: on whichever process the balancer chose."""
    work_us: float
    """Match, decide, commit the turn, send, mark: on the owner of the conversation's partition."""
    database_us: float
    wal_bytes: float = 6_000.0
    """Source: docs/scaling.md, measured with `pg_current_wal_insert_lsn()` over 1,920 answered messages."""
    stored_bytes: float = 4_400.0
    """In tables and indexes. Source: as above, by `pg_database_size`."""
    commits: float = 3.0
    """A message waits for: inbox, turn, mark. Source: docs/architecture.md, three commits."""
    commit_ms: float = 2.0
    """One commit without load: a round trip and a synced write. Assumption for two machines in one data centre."""

    @property
    def process_us(self) -> float:
        """All of one message, wherever it runs."""
        return self.ack_us + self.work_us

    def __post_init__(self) -> None:
        """Refuse what can't be."""
        if min(self.ack_us, self.work_us, self.database_us, self.wal_bytes) <= 0:
            raise ValueError("costs must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one process and one database may be asked for."""

    database_cores: float = 16.0
    database_share: float = 0.6
    """Of the cores, for messages; the rest is for vacuum, checkpoints, reports and the console. Assumption."""
    wal_megabytes: float = 100.0
    """A second that the disk and the replicas follow. Assumption."""
    connections: int = 400
    """`max_connections` less a reserve. Assumption; a pooler moves it."""
    connections_each: int = 8
    """Of one process. Source: docs/scaling.md; its pool has six."""
    process_share: float = 0.7
    """Of a core at the busiest second; above it queues grow faster than the load. Assumption, tried by the simulation."""

    def database_rate(self, costs: Costs) -> dict[str, float]:
        """Messages a second that one database bears, by what ends it."""
        processes = min(PARTITIONS, self.connections // self.connections_each)
        each = self.process_share * 1e6 / costs.process_us
        return {
            "CPU": self.database_cores * self.database_share * 1e6 / costs.database_us,
            "WAL": self.wal_megabytes * 1e6 / costs.wal_bytes,
            "connections": self.connections // self.connections_each * each,
            "partitions": processes * each if processes == PARTITIONS else PARTITIONS * each,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How many messages buyers write on the day, and when.

    The hours of the ordinary peaks are those of the domain rules, section 8 (11:00–13:00, 15:00–17:00, 20:00–22:00).
    Every other figure is an assumption: nobody publishes how many messages a shop gets.
    """

    shops: int = 10_000
    messages_per_shop: float = 150.0
    """Of an ordinary day, on average."""
    day_factor: float = 6.0
    """How many ordinary days Double Eleven is."""
    shop_spread: float = 1.5
    """Sigma of the log-normal sizes of shops: the largest hundredth then has a fifth of all messages."""
    peak_height: float = 1.6
    """Of the ordinary peaks, times other hours of the day."""
    night_height: float = 0.15
    """Of 01:30–08:30."""
    midnight_height: float = 12.0
    """Of the moment the sale opens, times other hours of the day."""
    midnight_minutes: float = 20.0
    """In which the midnight peak falls to 1/e."""
    burst_mean: float = 1.5
    """Messages that a buyer writes in one go."""
    burst_gap: float = 2.0
    """Seconds between them, on average."""

    @property
    def messages(self) -> float:
        """Of the whole modelled day."""
        return self.shops * self.messages_per_shop * self.day_factor


class Day:
    """The expected rate of every second of the modelled day."""

    def __init__(self, demand: Demand) -> None:
        seconds = np.arange(DAY_SECONDS, dtype=np.float64)
        hours = (DAY_BEGINS_HOUR + seconds / 3600) % 24
        height = np.ones(DAY_SECONDS)
        for begin, end in ((11, 13), (15, 17), (20, 22)):
            height[(hours >= begin) & (hours < end)] = demand.peak_height
        height[(hours >= 1.5) & (hours < 8.5)] = demand.night_height
        after = seconds - MIDNIGHT
        # Buyers ask about coupons in the hour before, and about everything once they may pay.
        before = (after < 0) & (after > -3600)
        height[before] += 0.15 * demand.midnight_height * (1 + after[before] / 3600)
        opened = after >= 0
        height[opened] += demand.midnight_height * np.exp(-after[opened] / (60 * demand.midnight_minutes))
        self.rates: Floats = height * (demand.messages / height.sum())

    def busiest(self, seconds: int) -> tuple[int, float]:
        """Return where the busiest span of so many seconds begins, and its rate a second."""
        sums = np.convolve(self.rates, np.ones(seconds), "valid")
        return int(sums.argmax()), float(sums.max() / seconds)


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages of a span by arrival: when (seconds from its beginning), of which shop and partition."""

    at: Floats
    shop: Whole
    partition: Whole

    def of(self, chosen: Flags) -> Messages:
        """Some of them."""
        return Messages(self.at[chosen], self.shop[chosen], self.partition[chosen])


@dataclass(frozen=True, slots=True)
class Topology:
    """`databases` with `processes` each; a shop belongs to one of them."""

    databases: int
    processes: int


def make_messages(
    random: np.random.Generator, demand: Demand, rates: Floats, sizes: Floats, *, load: float = 1.0
) -> Messages:
    """Return the messages of a span: bursts by chance at the given rates, spread over shops by their sizes.

    Args:
        random: the source of chance.
        demand: sizes and gaps of bursts.
        rates: messages a second, one for every second of the span.
        sizes: of the shops; only their ratios count.
        load: times the rates.
    """
    bursts = random.poisson(rates * load / demand.burst_mean)
    begins = np.repeat(np.arange(len(rates), dtype=np.float64), bursts) + random.random(int(bursts.sum()))
    shops = np.searchsorted(np.cumsum(sizes) / sizes.sum(), random.random(len(begins))).clip(
        max=len(sizes) - 1
    )
    partitions = random.integers(PARTITIONS, size=len(begins))
    lengths = random.geometric(1 / demand.burst_mean, size=len(begins))
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    number = np.arange(int(lengths.sum())) - first
    at = np.repeat(begins, lengths) + number * random.exponential(demand.burst_gap, size=len(number))
    order = np.argsort(at, kind="stable")
    return Messages(at[order], np.repeat(shops, lengths)[order], np.repeat(partitions, lengths)[order])


def shop_sizes(random: np.random.Generator, demand: Demand) -> Floats:
    """Return how the messages are shared out: a few large shops, many small ones."""
    return random.lognormal(0.0, demand.shop_spread, size=demand.shops)


def shops_by_database(sizes: Floats, databases: int) -> Whole:
    """Return each shop's database: the largest first, always to the one with the least so far, as one would move them."""
    loads = np.zeros(databases)
    chosen = np.zeros(len(sizes), dtype=np.int64)
    for shop in np.argsort(-sizes, kind="stable"):
        chosen[shop] = int(loads.argmin())
        loads[chosen[shop]] += sizes[shop]
    return chosen


def wait_in_line(at: Floats, service: Floats) -> Floats:
    """Return how long each job waits for one server that takes them in order (Lindley's recursion).

    Args:
        at: arrivals in seconds, rising.
        service: seconds of work of each.
    """
    if len(at) == 0:
        return np.zeros(0)
    steps = np.concatenate(([0.0], service[:-1] - np.diff(at)))
    walked = np.cumsum(steps)
    return walked - np.minimum.accumulate(walked)


def read_costs(page: Path, **overrides: float) -> Costs:
    """Read the measured costs on PostgreSQL from the benchmarks' page.

    Raises:
        ValueError: the page lacks a figure.
    """
    text = page.read_text("utf-8")
    found = re.search(r"<!-- postgresql: begin -->(.*?)<!-- postgresql: end -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{page} has no section about PostgreSQL")
    rows: dict[str, tuple[float, float]] = {}
    for line in found[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in (_ACK, _TURN, _REPLY) and len(cells) >= 5 and cells[4][:1].isdigit():
            rows.setdefault(cells[0], (_number(cells[2]), _number(cells[4])))
    if missing := [name for name in (_ACK, _REPLY) if name not in rows]:
        raise ValueError(f"{page} has no figures of: {', '.join(missing)}")
    ack, reply = rows[_ACK], rows[_REPLY]
    measured = {"ack_us": ack[0], "work_us": reply[0] - ack[0], "database_us": reply[1]}
    return Costs(**{**measured, **overrides})


def _number(cell: str) -> float:
    return float(cell.split()[0].replace(",", ""))
