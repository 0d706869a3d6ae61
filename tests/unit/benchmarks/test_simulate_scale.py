"""The paper simulation: repeatable, losing nothing, and agreeing with what can be worked out by hand."""

from __future__ import annotations

import dataclasses
import heapq
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import simulate_scale
from benchmarks.scale_model import (
    MIDNIGHT,
    PARTITIONS,
    Costs,
    Day,
    Demand,
    Limits,
    Messages,
    Topology,
    make_messages,
    read_costs,
    shop_sizes,
    shops_by_database,
    wait_in_line,
)
from benchmarks.simulate_scale import Outcome, plan, simulate, sweep

COSTS = Costs(ack_us=240, work_us=1_047, database_us=584)
LIMITS = Limits()
DEAR = Costs(ack_us=2_400, work_us=10_470, database_us=5_840)
"""Ten times as dear: few messages, quickly simulated, need several processes."""

SMALL = Demand(shops=200, messages_per_shop=1_000)
"""1.2 million messages in the day, from few shops."""

STEADY = Demand(burst_mean=1.001, shops=50)
SECONDS = 60


def steady(rate: float, topology: Topology, *, costs: Costs = COSTS, seed: int = 5) -> Outcome:
    """A rate that doesn't change, on a topology."""
    random = np.random.default_rng(seed)
    sizes = shop_sizes(random, STEADY)
    messages = make_messages(random, STEADY, np.full(SECONDS, rate), sizes)
    group = shops_by_database(sizes, topology.databases)
    return simulate(messages, group, topology, costs, LIMITS, seed=seed, begin=20, end=SECONDS)


def test_the_same_seed_gives_the_same_output_and_another_one_doesnt(capsys: pytest.CaptureFixture[str]):
    arguments = ["--shops", "200", "--messages-per-shop", "1000", "--json"]
    printed: list[str] = []
    for seed in ("3", "3", "4"):
        assert simulate_scale.main([*arguments, "--seed", seed]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0] != printed[2]
    assert json.loads(printed[0])["demand"]["shops"] == 200


def test_the_days_messages_are_all_of_the_demand_and_most_of_them_come_at_midnight():
    day = Day(SMALL)
    assert day.rates.sum() == pytest.approx(SMALL.messages)
    assert day.busiest(60)[0] == MIDNIGHT
    assert simulate_scale.clock_time(MIDNIGHT) == "00:00"
    noon, ten, night = (MIDNIGHT + hour * 3600 for hour in (12, 10, 4))
    assert day.rates[noon] > day.rates[ten] > day.rates[night] > 0


def test_as_many_messages_come_as_the_rates_say():
    random = np.random.default_rng(1)
    for load in (0.5, 1.0, 2.0):
        made = make_messages(random, SMALL, np.full(SECONDS, 300.0), shop_sizes(random, SMALL), load=load)
        assert len(made.at) == pytest.approx(300 * SECONDS * load, rel=0.03)
        assert (np.diff(made.at) >= 0).all()
        assert set(np.unique(made.partition)) == set(range(PARTITIONS))


@pytest.mark.parametrize("topology", [Topology(1, 2), Topology(1, 7), Topology(3, 4)])
def test_every_message_of_the_span_is_counted_once_whatever_the_topology(topology: Topology):
    random = np.random.default_rng(2)
    sizes = shop_sizes(random, SMALL)
    messages = make_messages(random, SMALL, np.full(SECONDS, 200.0), sizes)
    group = shops_by_database(sizes, topology.databases)
    outcome = simulate(messages, group, topology, COSTS, LIMITS, seed=2, begin=20, end=SECONDS)
    assert outcome.messages == int(((messages.at >= 20) & (messages.at < SECONDS)).sum())
    assert 0 <= outcome.waiting_at_end <= outcome.messages


def test_the_count_of_a_span_grows_as_the_load_does():
    """Stragglers of long bursts come after the span; they must neither move nor stretch it."""
    loads = sweep(SMALL, COSTS, LIMITS, Topology(1, 4), seed=7)
    whole = loads[1.0].messages
    for load, one in loads.items():
        assert one.messages == pytest.approx(whole * load, rel=0.05)
        assert one.process_load == pytest.approx(loads[1.0].process_load * load, rel=0.08)


def test_the_load_of_a_process_and_of_a_database_is_what_their_work_adds_up_to():
    outcome = steady(1_000.0, Topology(1, 4))
    assert outcome.process_load == pytest.approx(1_000 * COSTS.process_us / 1e6 / 4, rel=0.1)
    assert outcome.database_load == pytest.approx(
        1_000 * COSTS.database_us / 1e6 / LIMITS.database_cores, rel=0.05
    )


def test_waiting_agrees_with_the_formula_of_pollaczek_and_khinchine():
    """One server, arrivals by chance, service always the same: the mean wait is known."""
    random = np.random.default_rng(9)
    share, service = 0.8, 0.001
    at = np.cumsum(random.exponential(service / share, size=400_000))
    waited = wait_in_line(at, np.full(len(at), service)).mean()
    assert waited == pytest.approx(share * service / (2 * (1 - share)), rel=0.05)


def test_waiting_is_that_of_a_queue_served_one_by_one():
    random = np.random.default_rng(4)
    at = np.cumsum(random.exponential(1.0, size=500))
    service = random.exponential(0.9, size=500)
    free, expected = 0.0, []
    for arrived, takes in zip(at, service, strict=True):
        expected.append(max(0.0, free - arrived))
        free = max(free, arrived) + takes
    assert wait_in_line(at, service) == pytest.approx(np.array(expected))
    assert len(wait_in_line(np.zeros(0), np.zeros(0))) == 0


def test_more_processes_never_answer_later_and_more_load_never_sooner():
    by_processes = [steady(1_200.0, Topology(1, processes)).reply_p99 for processes in (2, 3, 4, 8)]
    assert by_processes == sorted(by_processes, reverse=True)
    by_load = [steady(rate, Topology(1, 2)).reply_p99 for rate in (200.0, 800.0, 1_200.0, 1_800.0)]
    assert by_load == sorted(by_load)


@pytest.mark.parametrize("rate", [600.0, 1_200.0, 1_500.0, 2_000.0])
def test_it_agrees_with_a_queue_played_event_by_event(rate: float):
    """Below, at and beyond what two processes can do: each message first for its ack, then anew for its turn."""
    random = np.random.default_rng(3)
    made = make_messages(random, STEADY, np.full(40, rate), np.ones(STEADY.shops))
    made = made.of(made.at < 40)
    acks, replies = played(made, 2, seed=5)
    counted = made.at >= 10
    outcome = simulate(
        *(made, np.zeros(STEADY.shops, dtype=np.int64), Topology(1, 2), COSTS, LIMITS),
        seed=5,
        begin=10,
        end=40,
    )
    assert outcome.ack_p99 == pytest.approx(np.quantile(acks[counted], 0.99), rel=0.02)
    assert outcome.reply_p99 == pytest.approx(np.quantile(replies[counted], 0.99), rel=0.02)
    waiting = int((made.at[counted] + replies[counted] > 40).sum())
    assert outcome.waiting_at_end == pytest.approx(waiting, rel=0.02, abs=5)
    assert (outcome.process_load > 1) == (rate == 2_000.0)


def played(messages: Messages, processes: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds to the ack and to the reply of each message, by a heap of events and a clock for each process."""
    random = np.random.default_rng(seed)
    count, commit = len(messages.at), COSTS.commit_ms / 1000
    vary = random.gamma(4.0, 0.25, size=(2, count))
    store = wait_in_line(messages.at, np.full(count, COSTS.database_us / 1e6 / LIMITS.database_cores))
    chosen = random.integers(processes, size=count)
    free = [0.0] * processes
    acks, replies = np.zeros(count), np.zeros(count)
    events = [(float(at), 0, number) for number, at in enumerate(messages.at)]
    heapq.heapify(events)
    while events:
        now, stage, one = heapq.heappop(events)
        process = int(messages.partition[one] % processes if stage else chosen[one])
        begun = max(free[process], now)
        free[process] = begun + vary[stage][one] * (COSTS.work_us if stage else COSTS.ack_us) / 1e6
        if stage == 0:
            acks[one] = free[process] - now + commit + store[one]
            heapq.heappush(events, (float(messages.at[one] + acks[one]), 1, one))
        else:
            replies[one] = acks[one] + free[process] - now + (COSTS.commits - 1) * (commit + store[one])
    return acks, replies


def test_a_cheaper_message_needs_fewer_processes():
    cheaper = dataclasses.replace(DEAR, ack_us=800, work_us=4_000)
    dear = plan(SMALL, DEAR, LIMITS, seed=1, target_p99=1.0).topology
    cheap = plan(SMALL, cheaper, LIMITS, seed=1, target_p99=1.0).topology
    assert 2 <= cheap.processes < dear.processes


def test_what_is_planned_answers_in_time_and_twice_as_many_messages_need_more():
    found = plan(SMALL, DEAR, LIMITS, seed=1, target_p99=0.5)
    assert found.outcome.reply_p99 <= 0.5
    assert found.outcome.process_load <= LIMITS.process_share
    doubled = dataclasses.replace(SMALL, messages_per_shop=2 * SMALL.messages_per_shop)
    assert plan(doubled, DEAR, LIMITS, seed=1, target_p99=0.5).topology.processes > found.topology.processes


def test_a_second_database_is_planned_when_one_ends():
    assert plan(SMALL, DEAR, LIMITS, seed=1, target_p99=1.0).topology.databases == 1
    narrow = Limits(database_cores=0.5)
    assert plan(SMALL, DEAR, narrow, seed=1, target_p99=1.0).topology.databases > 1


def test_limits_that_nothing_can_keep_are_said_in_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        simulate_scale.main(
            ["--shops", "200", "--messages-per-shop", "500", "--target-p99", "0.0001", "--connections", "24"]
        )
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_largest_shops_are_spread_over_databases_evenly():
    sizes = shop_sizes(np.random.default_rng(1), Demand())
    group = shops_by_database(sizes, 4)
    loads = [sizes[group == database].sum() for database in range(4)]
    assert max(loads) / min(loads) < 1.02


def test_costs_are_those_of_the_benchmarks_page_unless_given():
    page = Path(simulate_scale.PAGE)
    costs = read_costs(page)
    assert costs.work_us > costs.ack_us > 0
    assert costs.database_us > 0
    assert read_costs(page, ack_us=1.0).ack_us == 1.0


def test_a_page_without_the_figures_is_refused(tmp_path: Path):
    page = tmp_path / "benchmarks.md"
    page.write_text("<!-- postgresql: begin -->\n| Huoji, reply | – |\n<!-- postgresql: end -->\n", "utf-8")
    with pytest.raises(ValueError, match="has no figures of: Huoji, durable ack, Huoji, reply"):
        read_costs(page)
    page.write_text("nothing", "utf-8")
    with pytest.raises(ValueError, match="no section about PostgreSQL"):
        read_costs(page)


def test_costs_that_cant_be_are_refused():
    with pytest.raises(ValueError, match="positive"):
        Costs(ack_us=0, work_us=1, database_us=1)
