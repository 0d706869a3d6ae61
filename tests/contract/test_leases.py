"""Partitions shared out between processes on PostgreSQL: fair shares, take-over, hand-over, and never two owners."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Set
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from app.bus.local import LocalBus
from app.cli.checks.owners import check_owners
from app.core.errors import UnavailableError
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from app.delivery.marks import DeliveryMark, MarkDeliveries
from app.desk.work import Desk
from app.pipeline.place import Place
from app.pipeline.shared_leases import LEASE_SECONDS, SharedLeases
from app.storage import leases
from app.storage.database import Database
from app.storage.lease_line import LeaseLine
from app.storage.leases import PARTITIONS, FencedError
from app.storage.schema import upgrade
from app.storage.tables import delivery_attempts
from app.storage.urls import parse_database_url
from tests.fakes import FakeClock, FakeIds
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.timeout(60)

EVERYTHING = frozenset(range(PARTITIONS))


class Holder:
    """Notes what it is told; `busy` partitions can't be drained."""

    def __init__(self) -> None:
        self.working: set[int] = set()
        self.lost_at_once: list[Set[int]] = []
        self.busy: set[int] = set()
        self.looks = 0

    def gained(self, partitions: Set[int]) -> None:
        """Begin."""
        assert not self.working & partitions
        self.working |= partitions

    def lost(self, partitions: Set[int]) -> None:
        """Drop."""
        self.lost_at_once.append(frozenset(partitions))
        self.working -= partitions

    async def drained(self, partitions: Set[int], seconds: float) -> Set[int]:
        """Everything but what is busy."""
        return frozenset(partitions) - self.busy

    def resumed(self, partitions: Set[int]) -> None:
        """Go on."""
        assert partitions <= self.working

    async def caught_up(self) -> None:
        """Count."""
        self.looks += 1


class Process:
    """One process as far as leases are concerned."""

    def __init__(self, url: str, clock: FakeClock, *, identity: str = "") -> None:
        self.clock = clock
        self.metrics = Metrics()
        self.holder = Holder()
        self.line = LeaseLine(parse_database_url(url))
        self.leases = SharedLeases(
            line=self.line,
            clock=clock,
            ids=SystemIds(clock),
            metrics=self.metrics,
            bus=LocalBus(),
            place=Place(host="test", pid=os.getpid(), identity=identity),
        )

    @property
    def owned(self) -> frozenset[int]:
        """The partitions it owns; what it works is the same."""
        assert set(self.leases.epochs) == self.holder.working
        return frozenset(self.leases.epochs)

    async def tick(self) -> None:
        """Do what it does once a second, and what follows from it."""
        await self.leases.tick()
        # What is given up is given up by a task of its own.
        await eventually(lambda: not self.leases._tasks, what="partitions to be given up")


Start = Callable[..., Any]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """A database for a moment."""
    database = Database(url, metrics=Metrics())
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def url(postgres_url: str) -> str:
    """A database with tables."""
    await upgrade(postgres_url)
    return postgres_url


@pytest.fixture
async def line(url: str) -> AsyncIterator[LeaseLine]:
    """Somebody who looks into the database."""
    line = LeaseLine(parse_database_url(url))
    yield line
    await line.close()


@pytest.fixture
async def start(url: str, clock: FakeClock) -> AsyncIterator[Start]:
    """Starts processes whose seconds the test ticks."""
    started: list[Process] = []

    async def begin(*peers: Process, identity: str = "") -> Process:
        process = Process(url, clock, identity=identity)
        started.append(process)
        starting = asyncio.ensure_future(process.leases.start(process.holder))
        while not starting.done():
            for peer in peers:
                await peer.tick()
            await clock.run_for(0.05)
        await starting
        # Its seconds are the test's.
        task: asyncio.Task[None] = process.leases._task  # type: ignore[assignment]
        task.cancel()
        return process

    yield begin
    for process in started:
        await process.line.close()


async def expire(line: LeaseLine, process: Process) -> None:
    """Let a lease's time pass, by the database's clock."""

    def change(connection: Connection) -> None:
        connection.execute(
            text("UPDATE processes SET lease_until_ms = 1 WHERE id = :id"), {"id": process.leases.process_id}
        )

    await line.run(change)


async def held(line: LeaseLine) -> Counter[str]:
    """How many partitions each has, by the database."""
    return Counter(one.owner for one in (await line.run(leases.read_holdings)).values())


async def test_a_lone_process_owns_everything_and_is_alone(start: Start) -> None:
    one = await start()
    assert one.owned == EVERYTHING
    assert not one.leases.is_shared
    assert one.leases.is_member()
    assert all(one.leases.holds(partition) for partition in EVERYTHING)


async def test_a_second_process_takes_its_share_after_the_first_has_given_it_up(start: Start) -> None:
    one = await start()
    before = dict(one.leases.epochs)
    two = await start(one)
    assert one.leases.is_shared
    assert two.leases.is_shared
    await one.tick()
    await two.tick()
    assert (len(one.owned), len(two.owned)) == (32, 32)
    assert one.owned | two.owned == EVERYTHING
    assert all(two.leases.epochs[partition] == before[partition] + 1 for partition in two.owned)
    assert all(one.leases.epochs[partition] == before[partition] for partition in one.owned)


async def test_three_processes_share_fairly_and_the_two_left_take_what_the_third_had(start: Start) -> None:
    one = await start()
    two = await start(one)
    three = await start(one, two)
    for _ in range(2):
        for process in (one, two, three):
            await process.tick()
    assert sorted(len(process.owned) for process in (one, two, three)) == [20, 22, 22]
    assert one.owned | two.owned | three.owned == EVERYTHING
    await three.leases.stop(1.0)
    await one.tick()
    await two.tick()
    assert (len(one.owned), len(two.owned)) == (32, 32)


async def test_what_can_not_be_drained_in_time_is_kept_and_others_go_instead(start: Start) -> None:
    one = await start()
    one.holder.busy = set(range(60, 64))
    two = await start(one)
    for _ in range(2):
        await one.tick()
        await two.tick()
    assert (len(one.owned), len(two.owned)) == (32, 32)
    assert one.owned >= one.holder.busy
    assert all(one.leases.holds(partition) for partition in one.owned)


async def test_a_process_that_does_not_renew_loses_everything_to_the_first_that_looks(
    start: Start, line: LeaseLine
) -> None:
    one = await start()
    two = await start(one)
    await one.tick()
    await two.tick()
    await expire(line, one)
    await two.tick()
    assert two.owned == EVERYTHING
    assert one.leases.process_id not in await held(line)
    # It comes back: whatever it had is gone, and it begins again as somebody new.
    old = one.leases.process_id
    await one.leases.tick()
    assert one.owned == frozenset()
    assert not one.leases.is_member()
    assert one.holder.lost_at_once == [frozenset(range(32, 64)), frozenset(range(32))]
    await one.leases.tick()
    assert one.leases.process_id not in (None, old)
    assert not one.leases.is_member()
    await two.tick()
    await one.leases.tick()
    assert one.leases.is_member()
    assert (len(one.owned), len(two.owned)) == (32, 32)


async def test_a_lease_that_ran_out_while_nobody_looked_is_simply_renewed(
    start: Start, line: LeaseLine
) -> None:
    one = await start()
    epochs = dict(one.leases.epochs)
    await expire(line, one)
    await one.tick()
    assert dict(one.leases.epochs) == epochs
    assert one.holder.lost_at_once == []


async def test_a_process_stops_being_sure_before_its_lease_runs_out(start: Start, clock: FakeClock) -> None:
    one = await start()
    await one.tick()
    clock.advance(LEASE_SECONDS - 1)
    assert one.leases.holds(0)
    clock.advance(0.6)
    assert not one.leases.holds(0)
    assert not one.leases.is_member()
    # Nothing is dropped for that: the database decides who owns what.
    assert one.owned == EVERYTHING
    await one.tick()
    assert one.leases.holds(0)


async def test_one_that_stops_hands_over_at_once(start: Start, line: LeaseLine) -> None:
    one = await start()
    two = await start(one)
    await one.tick()
    await two.tick()
    await one.leases.stop(5.0)
    assert one.holder.working == set()
    assert await held(line) == Counter({"": 32, two.leases.process_id: 32})
    await two.tick()
    assert two.owned == EVERYTHING


async def test_a_process_is_no_member_before_the_others_know_of_it(
    start: Start, url: str, clock: FakeClock
) -> None:
    one = await start()
    two = Process(url, clock)
    starting = asyncio.ensure_future(two.leases.start(two.holder))
    for _ in range(5):
        await clock.run_for(0.05)
    await eventually(lambda: two.leases.process_id is not None)
    assert not two.leases.is_member()
    assert not starting.done()
    await one.tick()
    await clock.run_until(starting.done, step=0.05)
    assert two.leases.is_member()
    await two.leases.stop(1.0)


async def test_the_last_one_left_looks_once_more_before_it_stops_looking(start: Start) -> None:
    one = await start()
    two = await start(one)
    await two.leases.stop(1.0)
    assert one.leases.is_shared
    await one.tick()
    await one.clock.run_until(lambda: not one.leases.is_shared, step=0.5)
    assert one.holder.looks == 1


async def test_of_eight_who_claim_at_once_no_two_win_the_same(url: str, line: LeaseLine) -> None:
    for _ in range(5):
        lines = [LeaseLine(parse_database_url(url)) for _ in range(8)]
        names = [f"p-{os.urandom(4).hex()}" for _ in lines]
        for name in names:
            await line.run(
                lambda c, name=name: leases.register(
                    c, name, host="h", pid=1, place="", version="1", lease_ms=60_000
                )
            )
        won = await asyncio.gather(
            *(
                one.run(lambda c, name=name: leases.claim(c, name, limit=12))
                for one, name in zip(lines, names, strict=True)
            )
        )
        taken = [partition for got in won for partition in got]
        assert len(taken) == len(set(taken))
        holdings = await line.run(leases.read_holdings)
        for name, got in zip(names, won, strict=True):
            assert {p: one.epoch for p, one in holdings.items() if one.owner == name} == got
        for name, one in zip(names, lines, strict=True):
            await line.run(lambda c, name=name: leases.leave(c, name))
            await one.close()


async def test_one_that_was_declared_dead_can_claim_nothing(url: str, line: LeaseLine) -> None:
    await line.run(lambda c: leases.register(c, "p-1", host="h", pid=1, place="", version="1", lease_ms=-1))
    assert await line.run(leases.bury_expired) == ["p-1"]
    assert await line.run(lambda c: leases.claim(c, "p-1", limit=64)) == {}
    assert not await line.run(lambda c: leases.renew(c, "p-1", knows=1, lease_ms=4000))


async def test_one_that_was_declared_dead_changes_nothing_for_agents(
    start: Start, url: str, line: LeaseLine
) -> None:
    one = await start()
    two = await start(one)
    await one.tick()
    async with opened(url) as database:
        desk = desk_of(database, one)
        assert await desk.change(lambda _work: "changed") == "changed"
        await expire(line, one)
        await two.tick()
        with pytest.raises(UnavailableError, match="cut off"):
            await desk.change(lambda _work: "changed")
        await one.leases.tick()
        with pytest.raises(UnavailableError, match="cut off"):
            await desk.change(lambda _work: "changed")
        await one.leases.tick()
        # It has joined again, and the other doesn't know that yet.
        with pytest.raises(UnavailableError, match="cut off"):
            await desk.change(lambda _work: "changed")
        await two.tick()
        await one.leases.tick()
        assert await desk.change(lambda _work: "changed") == "changed"


async def test_nobody_is_declared_dead_while_it_changes_something_for_an_agent(
    start: Start, url: str, line: LeaseLine
) -> None:
    one = await start()
    two = await start(one)
    await expire(line, one)
    found: list[UnavailableError] = []

    async def bury() -> None:
        try:
            await two.tick()
        except UnavailableError as problem:
            found.append(problem)

    async with opened(url) as database:
        engine: Any = database
        async with engine._engine.connect() as connection:
            await connection.run_sync(one.leases.require_living)
            await bury()
            assert found
            assert one.leases.process_id in {row.id for row in await line.run(leases.read_processes)}
            await connection.rollback()
    await two.tick()
    assert two.owned == EVERYTHING


def desk_of(database: Database, process: Process) -> Desk:
    """The desk of one process."""
    return Desk(
        database,
        clock=process.clock,
        ids=FakeIds(),
        on_conversation_changed=lambda _conversation: None,
        on_enqueued=lambda _items: None,
        on_events=lambda: None,
        on_queue_changed=lambda: None,
        require_living=process.leases.require_living,
    )


async def test_every_process_makes_ids_of_its_own(url: str, line: LeaseLine) -> None:
    nodes: list[int] = []
    for n in range(40):
        _, node = await line.run(
            lambda c, n=n: leases.register(
                c, f"p-{n}", host="h", pid=1, place="", version="1", lease_ms=60_000
            )
        )
        nodes.append(node)
    assert len(set(nodes)) == 40
    assert all(0 <= node < 1024 for node in nodes)


async def test_partitions_of_a_program_from_before_there_were_leases_are_taken(
    start: Start, line: LeaseLine
) -> None:
    def old_owner(connection: Connection) -> None:
        for partition in range(PARTITIONS):
            connection.execute(
                text("INSERT INTO partition_leases VALUES (:p, 7, 'old-host:12', 99999999999999)"),
                {"p": partition},
            )

    await line.run(old_owner)
    one = await start()
    await one.tick()
    assert one.owned == EVERYTHING
    assert set(one.leases.epochs.values()) == {8}


def a_neighbour() -> subprocess.Popen[str]:
    """A process that says where it is and then waits."""
    code = "from app.pipeline.place import Place; print(Place.here().identity, flush=True); input()"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def test_a_neighbour_that_was_killed_is_buried_without_waiting_for_its_lease(start: Start) -> None:
    neighbour = a_neighbour()
    assert neighbour.stdout is not None
    identity = neighbour.stdout.readline().strip()
    mine = Place.here()
    try:
        assert identity
        assert not mine.is_dead(identity)
        assert not mine.is_dead(mine.identity)
        assert not mine.is_dead(identity.replace("pid:", "other:"))
        assert mine.is_dead(identity[:-1] + ("1" if identity[-1] != "1" else "2"))
    finally:
        neighbour.kill()
    wait_until(lambda: mine.is_dead(identity), what="the kernel to know")
    neighbour.communicate()
    assert mine.is_dead(identity)
    one = await start(identity=identity)
    # The other one's lease has seconds left; nobody waits for them.
    two = await start(identity=mine.identity)
    await two.tick()
    assert two.owned == EVERYTHING
    await one.leases.tick()
    assert one.owned == frozenset()


async def test_a_late_mark_is_refused_and_its_neighbours_are_written(start: Start, url: str) -> None:
    one = await start()
    epoch = one.leases.epochs[5]
    operation = MarkDeliveries(lambda _connection, _rows: None)

    def mark(number: int, held_under: int) -> DeliveryMark:
        attempt = {
            "outbox_id": number, "number": 1, "started_at_ms": 1, "duration_ms": 1, "outcome": "delivered",
            "status_code": 200, "error": None,
        }  # fmt: skip
        return DeliveryMark(
            outbox_id=number, message_id=number, state="sent", message_status="sent", attempts=1, now_ms=1,
            next_attempt_at_ms=1, error=None, partition=5, epoch=held_under, attempt=attempt,
        )  # fmt: skip

    async with opened(url) as database:
        results = await asyncio.gather(
            database.writer.submit(operation, mark(1, epoch)),
            database.writer.submit(operation, mark(2, epoch - 1)),
            return_exceptions=True,
        )
        rows = await database.read(lambda c: c.execute(select(delivery_attempts.c.outbox_id)).scalars().all())
    assert results[0] is None
    assert isinstance(results[1], FencedError)
    assert rows == [1]


async def test_the_doctor_says_who_works_what(start: Start, url: str, line: LeaseLine) -> None:
    async with opened(url) as database:
        assert (await database.read(check_owners)).level == "info"
        one = await start()
        finding = await database.read(check_owners)
        assert (finding.level, "works 64" in finding.en) == ("ok", True)
        two = await start(one)
        assert (await database.read(check_owners)).level in ("ok", "warning")
        await one.tick()
        await two.tick()
        finding = await database.read(check_owners)
        assert (finding.level, finding.en.count("works 32")) == ("ok", 2)
        await expire(line, two)
        finding = await database.read(check_owners)
        assert (finding.level, "did not renew" in finding.en) == ("warning", True)
