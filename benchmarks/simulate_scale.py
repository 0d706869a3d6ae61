"""How many processes and databases 10,000 shops need on Double Eleven: `python -m benchmarks.simulate_scale`.

A seeded simulation on paper: every message of the busiest minutes passes the process that acks it, the database, and the
process that owns its conversation, each of which takes its jobs in order. Same seed, same output. ``docs/scaling.md``
explains what is modelled and keeps the last result.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.scale_model import (
    MIDNIGHT,
    PARTITIONS,
    Costs,
    Day,
    Demand,
    Flags,
    Floats,
    Limits,
    Messages,
    Topology,
    Whole,
    make_messages,
    read_costs,
    shop_sizes,
    shops_by_database,
    wait_in_line,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"

WARM_UP = 120
"""Seconds before the span that is looked at, so that it doesn't begin with empty queues."""

SPAN = 300
PATIENCE = 5.0
"""Seconds after which a marketplace hangs up and posts again. Source: the platforms' pages name three to five."""

MOST_PASSES = 60
SETTLED = 0.002
"""Seconds: queues are as they will be when no wait moves by more from one pass to the next."""

GROWTH = (50.0, 150.0, 500.0, 1_500.0)
"""Messages of an average shop on an ordinary day: the sizes that `--growth` goes through."""

LOADS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the messages of a span. Seconds; shares of one."""

    messages: int
    acked_late: float
    """Share of the webhooks answered after the marketplace's patience."""
    ack_p99: float
    reply_p50: float
    reply_p99: float
    waiting_at_end: int
    """Messages of the span not yet answered when it ended."""
    process_load: float
    """Work that came in the span for the busiest process, as a share of what it can do in it; above 1 it can't."""
    database_load: float
    """The same of the busiest database, all of its cores."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the search found, and why."""

    topology: Topology
    outcome: Outcome
    database_rates: dict[str, float]


def simulate(
    messages: Messages,
    group: Whole,
    topology: Topology,
    costs: Costs,
    limits: Limits,
    *,
    seed: int,
    begin: float,
    end: float,
) -> Outcome:
    """Pass the messages through the processes and databases.

    A message is acked by a process chosen by chance and worked off by its partition's owner; both are jobs of that
    process's one loop, in order of arrival. The database is one server with the speed of its cores: its work is spread
    evenly, which grouped commits come close to.

    Args:
        messages: by arrival; those before `begin` warm up, those from `end` on are left out.
        group: each shop's database.
        topology: what there is.
        costs: of one message.
        limits: the database's cores.
        seed: of services and of the balancer's choice.
        begin: where the span that counts begins, in the messages' seconds.
        end: where it ends.
    """
    random = np.random.default_rng(seed)
    messages = messages.of(messages.at < end)
    home = group[messages.shop]
    acks, replies = np.zeros(len(messages.at)), np.zeros(len(messages.at))
    process_load = database_load = 0.0
    for database in range(topology.databases):
        mine = np.flatnonzero(home == database)
        if len(mine) == 0:
            continue
        counted = messages.at[mine] >= begin
        acks[mine], replies[mine], busiest = _one_database(
            messages.of(home == database), topology.processes, costs, limits, random, counted
        )
        process_load = max(process_load, busiest / (end - begin))
        store = float(counted.sum()) * costs.database_us / 1e6 / limits.database_cores
        database_load = max(database_load, store / (end - begin))
    counted = messages.at >= begin
    if not counted.any():
        return Outcome(0, 0.0, 0.0, 0.0, 0.0, 0, process_load, database_load)
    at, ack, reply = messages.at[counted], acks[counted], replies[counted]
    return Outcome(
        messages=len(at),
        acked_late=float((ack > PATIENCE).mean()),
        ack_p99=float(np.quantile(ack, 0.99)),
        reply_p50=float(np.quantile(reply, 0.5)),
        reply_p99=float(np.quantile(reply, 0.99)),
        waiting_at_end=int((at + reply > end).sum()),
        process_load=process_load,
        database_load=database_load,
    )


def _one_database(
    messages: Messages,
    processes: int,
    costs: Costs,
    limits: Limits,
    random: np.random.Generator,
    counted: Flags,
) -> tuple[Floats, Floats, float]:
    """Return seconds to the ack and to the reply of each message, and the busiest process's work for those counted."""
    count = len(messages.at)
    commit = costs.commit_ms / 1000
    # Services differ (long texts, orders to fetch): a gamma of shape 4 has half its mean as deviation.
    vary = random.gamma(4.0, 0.25, size=(2, count))
    store = wait_in_line(messages.at, np.full(count, costs.database_us / 1e6 / limits.database_cores))
    taken_by = random.integers(processes, size=count)
    owner = messages.partition % processes
    ack_work, turn_work = vary[0] * costs.ack_us / 1e6, vary[1] * costs.work_us / 1e6
    members = [(np.flatnonzero(taken_by == one), np.flatnonzero(owner == one)) for one in range(processes)]
    ack_wait, turn_wait = np.zeros(count), np.zeros(count)
    for _ in range(MOST_PASSES):
        # A turn stands in line once its ack is done, which itself waited among turns: again until nothing moves.
        handed = messages.at + ack_wait + ack_work + commit + store
        before = ack_wait.copy()
        for acked, owned in members:
            at = np.concatenate((messages.at[acked], handed[owned]))
            order = np.argsort(at, kind="stable")
            waits = np.empty(len(at))
            waits[order] = wait_in_line(at[order], np.concatenate((ack_work[acked], turn_work[owned]))[order])
            ack_wait[acked], turn_wait[owned] = waits[: len(acked)], waits[len(acked) :]
        if np.abs(ack_wait - before).max() < SETTLED:
            break
    busiest = max(
        float(ack_work[acked][counted[acked]].sum() + turn_work[owned][counted[owned]].sum())
        for acked, owned in members
    )
    ack = ack_wait + ack_work + store + commit
    return ack, ack + turn_wait + turn_work + (costs.commits - 1) * (commit + store), busiest


def plan(demand: Demand, costs: Costs, limits: Limits, *, seed: int, target_p99: float) -> Plan:
    """Find the fewest databases, then the fewest processes, that answer in time in the busiest minutes.

    Databases by what one bears (CPU, WAL, connections, partitions), processes by simulation, upwards from the
    first number that could do with the allowed share of a core.

    Raises:
        ValueError: not even a process for every partition is fast enough.
    """
    random = np.random.default_rng(seed)
    sizes = shop_sizes(random, demand)
    peak = float(Day(demand).rates.max())
    rates = limits.database_rate(costs)
    databases = max(1, math.ceil(peak / min(rates.values())))
    messages = _busiest_messages(demand, sizes, seed=seed, load=1.0)
    group = shops_by_database(sizes, databases)
    most = min(PARTITIONS, limits.connections // limits.connections_each)
    _, offered = Day(demand).busiest(SPAN)
    processes = 2
    while processes <= most:
        if _least_load(offered / databases, processes, costs) > limits.process_share:
            processes += 1
            continue
        topology = Topology(databases, processes)
        outcome = simulate(
            messages, group, topology, costs, limits, seed=seed, begin=WARM_UP, end=WARM_UP + SPAN
        )
        in_time = outcome.reply_p99 <= target_p99 and outcome.process_load <= limits.process_share
        if in_time:
            return Plan(topology, outcome, rates)
        processes += max(1, processes // 20)
    raise ValueError(f"{databases} databases with {most} processes each aren't fast enough; raise the limits")


def _least_load(rate: float, processes: int, costs: Costs) -> float:
    """The load of the process with the most partitions, if balancer and conversations were perfectly even."""
    owned = math.ceil(PARTITIONS / processes) / PARTITIONS
    return rate * (costs.ack_us / processes + costs.work_us * owned) / 1e6


def sweep(
    demand: Demand, costs: Costs, limits: Limits, topology: Topology, *, seed: int
) -> dict[float, Outcome]:
    """Simulate the busiest minutes at several loads on what was planned for one: where it breaks."""
    sizes = shop_sizes(np.random.default_rng(seed), demand)
    group = shops_by_database(sizes, topology.databases)
    return {
        load: simulate(
            _busiest_messages(demand, sizes, seed=seed, load=load),
            *(group, topology, costs, limits),
            seed=seed,
            begin=WARM_UP,
            end=WARM_UP + SPAN,
        )
        for load in LOADS
    }


def _busiest_messages(demand: Demand, sizes: Floats, *, seed: int, load: float) -> Messages:
    day = Day(demand)
    begin, _ = day.busiest(SPAN)
    rates = day.rates[begin - WARM_UP : begin + SPAN]
    return make_messages(np.random.default_rng(seed), demand, rates, sizes, load=load)


def clock_time(second: int) -> str:
    """A second of the modelled day as the time of day."""
    return f"{(second - MIDNIGHT) // 3600 % 24:02d}:{(second - MIDNIGHT) // 60 % 60:02d}"


def document(
    demand: Demand, costs: Costs, limits: Limits, found: Plan, loads: dict[float, Outcome]
) -> dict[str, object]:
    """Everything as JSON."""
    return {
        "demand": dataclasses.asdict(demand),
        "costs": dataclasses.asdict(costs),
        "limits": dataclasses.asdict(limits),
        "one_database_rates": found.database_rates,
        "topology": dataclasses.asdict(found.topology),
        "loads": {str(load): dataclasses.asdict(one) for load, one in loads.items()},
    }


def render(
    demand: Demand, costs: Costs, limits: Limits, found: Plan, loads: dict[float, Outcome], *, seed: int
) -> str:
    """Everything for people, as Markdown."""
    day = Day(demand)
    begin, minute = day.busiest(60)
    mean = demand.messages / len(day.rates)
    topology, rates = found.topology, found.database_rates
    each = topology.processes * limits.connections_each
    wal = minute * costs.wal_bytes / topology.databases / 1e6
    stored = demand.messages * costs.stored_bytes / 1e9 / topology.databases
    tightest = min(rates, key=lambda name: rates[name])
    ends = ", ".join(
        f"{rate:,.0f}/s by {name}" for name, rate in sorted(rates.items(), key=lambda one: one[1])
    )
    facts = {
        f"{demand.shops:,} shops on Double Eleven": f"seed {seed}.",
        "Demand": f"{demand.messages / 1e6:,.1f} million messages in 28 hours, {mean:,.0f}/s on average; the busiest "
        f"minute, {clock_time(begin)}, has {minute:,.0f}/s ({minute / mean:.1f}×).",
        "Cost of a message": f"{costs.process_us:,.0f} µs of a process ({costs.ack_us:,.0f} for the ack), "
        f"{costs.database_us:,.0f} µs of the database, {costs.wal_bytes:,.0f} bytes of WAL.",
        "One process": f"{limits.process_share * 1e6 / costs.process_us:,.0f} messages/s at "
        f"{limits.process_share:.0%} of a core.",
        "One database": f"ends at {ends}: {tightest} first.",
        "Needed": f"{topology.databases} × a database of {limits.database_cores:g} cores, {topology.processes} processes "
        f"on each, {topology.databases * topology.processes} in all; on each database {each:,} connections, "
        f"{wal:,.0f} MB/s of WAL, {stored:,.0f} GB stored in the day.",
    }
    head = "| load | messages/s | busiest process | database | ack p99 ms | reply p50 ms | reply p99 ms | acked after 5 s |"
    rows = [
        f"| {load:g}× | {one.messages / SPAN:,.0f} | {one.process_load:.0%} | {one.database_load:.0%} "
        f"| {one.ack_p99 * 1e3:,.0f} | {one.reply_p50 * 1e3:,.0f} | {one.reply_p99 * 1e3:,.0f} | {one.acked_late:.1%} |"
        for load, one in loads.items()
    ]
    listed = [f"- **{name}**: {text}" for name, text in facts.items()]
    return "\n".join([*listed, "", head, "| --- " * 8 + "|", *rows, "", _where_it_breaks(loads)])


def render_growth(demand: Demand, costs: Costs, limits: Limits, *, seed: int, target_p99: float) -> str:
    """What other sizes of shops need, as a table: the demand is the least certain of all figures."""
    rows: list[str] = []
    for messages in GROWTH:
        larger = dataclasses.replace(demand, messages_per_shop=messages)
        peak = float(Day(larger).rates.max())
        found = plan(larger, costs, limits, seed=seed, target_p99=target_p99)
        one, topology = found.outcome, found.topology
        rows.append(
            f"| {messages:,.0f} | {peak:,.0f} | {topology.databases} | {topology.databases * topology.processes} "
            f"| {one.database_load:.0%} | {one.reply_p99 * 1e3:,.0f} |"
        )
    head = "| messages a shop, ordinary day | a second at midnight | databases | processes | database | reply p99 ms |"
    return "\n".join([head, "| --- " * 6 + "|", *rows])


def _where_it_breaks(loads: dict[float, Outcome]) -> str:
    broken = [load for load, one in loads.items() if one.reply_p99 > PATIENCE]
    if not broken:
        return f"Nothing breaks up to {max(loads):g}×."
    one = loads[broken[0]]
    what = "a process" if one.process_load >= one.database_load else "a database"
    last = max([load for load in loads if load < broken[0]], default=0)
    return (
        f"It breaks between {last:g}× and {broken[0]:g}×: {what} gets more than it can work off, and "
        f"{one.waiting_at_end:,} messages wait after five minutes. The queues here have no end; Huoji's are bounded, and "
        "beyond them it asks the marketplaces to come later (503)."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan; returns 1 when there is none."""
    parser = argparse.ArgumentParser(description="Simulate shops on Double Eleven from measured costs.")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--target-p99", type=float, default=1.0, help="seconds from webhook to reply")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--growth", action="store_true", help="also what smaller and larger shops need")
    groups = {"demand": Demand, "limits": Limits, "costs": Costs}
    for name, kind in groups.items():
        group = parser.add_argument_group(name)
        for one in dataclasses.fields(kind):
            is_whole = one.type == "int"
            group.add_argument(
                f"--{one.name.replace('_', '-')}", type=int if is_whole else float, default=None
            )
    chosen = vars(parser.parse_args(arguments))

    def given(kind: type[Demand] | type[Limits] | type[Costs]) -> dict[str, float]:
        return {
            one.name: chosen[one.name] for one in dataclasses.fields(kind) if chosen[one.name] is not None
        }

    try:
        costs = read_costs(PAGE, **given(Costs))
        demand, limits = Demand(**given(Demand)), Limits(**given(Limits))  # type: ignore[arg-type]
        seed: int = chosen["seed"]
        found = plan(demand, costs, limits, seed=seed, target_p99=chosen["target_p99"])
        loads = sweep(demand, costs, limits, found.topology, seed=seed)
        growth = (
            render_growth(demand, costs, limits, seed=seed, target_p99=chosen["target_p99"])
            if chosen["growth"] and not chosen["json"]
            else ""
        )
    except ValueError as error:
        parser.exit(1, f"simulate_scale: {error}\n")
    if chosen["json"]:
        print(json.dumps(document(demand, costs, limits, found, loads), indent=2))
    else:
        print(render(demand, costs, limits, found, loads, seed=seed))
        if growth:
            print(f"\n{growth}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
