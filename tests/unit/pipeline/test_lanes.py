"""Lanes: order, bursts, second tries, parking and stopping, on a clock that the tests move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from app.core.errors import UnavailableError
from app.core.metrics import Metrics
from app.domain.conversations import Conversation, ConversationState
from app.domain.messages import Content, EventKind, InboundEvent
from app.pipeline.commit import StaleTurnError
from app.pipeline.inbox import InboxItem, InboxResult
from app.pipeline.lanes import MAX_TRIES, Lanes
from app.pipeline.partitions import FencedError
from app.pipeline.records import ConversationRecord
from tests.fakes import FakeClock, FakeIds

Lane = tuple[str, str]


class Worker:
    """Does turns by writing them down; `fails` decides what goes wrong, `gate` holds turns up."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.quiet, self.longest = 0.0, 0.0
        self.turns: list[tuple[str, ...]] = []
        self.parked: list[tuple[str, ...]] = []
        self.loads: list[Lane] = []
        self.seen: list[ConversationRecord | None] = []
        self.stored: dict[Lane, ConversationRecord] = {}
        self.fails: Callable[[Sequence[InboxItem]], Exception | None] = lambda items: None
        self.park_fails: list[Exception] = []
        self.away = 0
        self.gate: asyncio.Event | None = None
        self.under_way: set[str] = set()
        self.overlapping = False

    def is_complete(self, item: InboxItem) -> bool:
        """Whether a text ends like a sentence; one that says so makes the judge fail."""
        text = item.event.content.text if item.event.content else ""
        if text == "poison":
            raise RecursionError("poison")
        return text.endswith("?")

    def burst_times(self, item: InboxItem, record: ConversationRecord | None) -> tuple[float, float]:
        """The same times for everybody."""
        return self.quiet, self.longest

    async def load(self, key: Lane) -> ConversationRecord | None:
        """Read what was stored."""
        self.loads.append(key)
        if self.away:
            self.away -= 1
            raise UnavailableError("away")
        return self.stored.get(key)

    async def process(
        self, record: ConversationRecord | None, items: Sequence[InboxItem]
    ) -> ConversationRecord | None:
        """Note a turn and store its conversation."""
        lane = items[0].lane_key
        self.overlapping |= lane in self.under_way
        self.under_way.add(lane)
        self.seen.append(record)
        try:
            if self.gate is not None:
                await self.gate.wait()
            error = self.fails(items)
            if error is not None:
                raise error
        finally:
            self.under_way.discard(lane)
        self.turns.append(_texts(items))
        return self._store(items)

    async def park(
        self, record: ConversationRecord | None, items: Sequence[InboxItem], error: Exception
    ) -> ConversationRecord | None:
        """Note what was set aside."""
        if self.park_fails:
            raise self.park_fails.pop(0)
        self.parked.append(_texts(items))
        return self._store(items)

    def _store(self, items: Sequence[InboxItem]) -> ConversationRecord:
        head = items[0]
        key = (head.account_id, head.lane_key)
        before = self.stored.get(key)
        version = before.stored_version + 1 if before else 1
        self.stored[key] = record_of(head.lane_key, version)
        return self.stored[key]


def _texts(items: Sequence[InboxItem]) -> tuple[str, ...]:
    return tuple(item.event.content.text if item.event.content else "-" for item in items)


def record_of(lane: str, version: int = 1) -> ConversationRecord:
    """A conversation as it is stored."""
    return ConversationRecord(
        conversation=Conversation(
            id=int(lane.removeprefix("c")),
            account_id="a",
            external_id=lane,
            shop_id="s",
            channel="generic",
            state=ConversationState.BOT,
            version=version,
            buyer_external_id="b",
        ),
        buyer_id=1,
        partition=0,
        created_at_ms=0,
        stored_version=version,
    )


class World:
    """Lanes with a worker."""

    def __init__(self, clock: FakeClock, ids: FakeIds) -> None:
        self.clock, self.ids = clock, ids
        self.worker = Worker(clock)
        self.metrics = Metrics()
        self.fenced = 0
        self.lanes = Lanes(worker=self.worker, clock=clock, metrics=self.metrics, on_fenced=self._fenced)

    def _fenced(self, partition: int) -> None:
        self.fenced += 1

    def item(self, text: str, lane: str = "c1", kind: EventKind = EventKind.MESSAGE) -> InboxItem:
        """Make an event that was stored now."""
        number = self.ids.next()
        return InboxItem(
            id=number,
            account_id="a",
            shop_id="s",
            channel="generic",
            event=InboundEvent(
                kind=kind,
                dedupe_key=f"m:{number}",
                content=Content(text=text) if kind is EventKind.MESSAGE else None,
            ),
            lane_key=lane,
            partition=0,
            received_at_ms=self.clock.now_ms(),
            headers={},
            body=b"",
        )

    async def say(self, *texts: str, lane: str = "c1", then: float = 0) -> None:
        """Push messages, then let time pass."""
        for text in texts:
            self.lanes.push(self.item(text, lane))
        await self.clock.run_for(then)

    async def pass_time(self, seconds: float = 0) -> None:
        """Let time pass."""
        await self.clock.run_for(seconds)


@pytest.fixture
async def world(clock: FakeClock, ids: FakeIds) -> AsyncIterator[World]:
    """Lanes that are stopped at the end."""
    world = World(clock, ids)
    yield world
    await world.lanes.stop(0.1)


async def test_a_conversation_is_worked_off_in_order_and_one_turn_at_a_time(world: World) -> None:
    await world.say("1", "2", "3")
    assert world.worker.turns == [("1",), ("2",), ("3",)]
    assert not world.worker.overlapping
    assert world.lanes.waiting == 0


async def test_conversations_do_not_wait_for_each_other(world: World) -> None:
    world.worker.fails = lambda items: UnavailableError("busy") if items[0].lane_key == "c1" else None
    await world.say("stuck", "behind it", lane="c1")
    await world.say("free", lane="c2")
    assert world.worker.turns == [("free",)]


async def test_an_event_is_taken_once(world: World) -> None:
    world.worker.gate = asyncio.Event()
    item = world.item("1")
    world.lanes.push(item)
    await world.pass_time()
    world.lanes.push(item)
    world.worker.gate.set()
    await world.pass_time()
    assert world.worker.turns == [("1",)]


async def test_fragments_wait_for_quiet_and_become_one_turn(world: World) -> None:
    world.worker.quiet, world.worker.longest = 2.5, 8.0
    await world.say("在吗", then=1)
    await world.say("我想问", then=1)
    await world.say("那个", then=2.4)
    assert world.worker.turns == []
    await world.pass_time(0.2)
    assert world.worker.turns == [("在吗", "我想问", "那个")]


async def test_whoever_keeps_writing_is_answered_after_the_longest_wait(world: World) -> None:
    world.worker.quiet, world.worker.longest = 2.5, 8.0
    for number in range(5):
        await world.say(str(number), then=1.9)
    assert world.worker.turns == [("0", "1", "2", "3", "4")]


async def test_a_complete_question_is_answered_at_once_unless_something_waits_before_it(world: World) -> None:
    world.worker.quiet, world.worker.longest = 2.5, 8.0
    await world.say("发货了吗?")
    assert world.worker.turns == [("发货了吗?",)]
    await world.say("在吗", "发货了吗?")
    assert len(world.worker.turns) == 1
    await world.pass_time(2.6)
    assert world.worker.turns[1] == ("在吗", "发货了吗?")


async def test_with_merging_off_a_backlog_is_answered_message_by_message(world: World) -> None:
    await world.say("在", "吗", "那个")
    assert world.worker.turns == [("在",), ("吗",), ("那个",)]


async def test_an_event_that_is_no_message_ends_the_burst_before_it(world: World) -> None:
    world.worker.quiet, world.worker.longest = 2.5, 8.0
    world.lanes.push(world.item("在吗"))
    world.lanes.push(world.item("", kind=EventKind.CLOSED))
    await world.pass_time()
    assert world.worker.turns == [("在吗",), ("-",)]


async def test_a_failing_turn_is_tried_three_times_then_parked_and_the_lane_goes_on(world: World) -> None:
    tries: list[str] = []

    def fail(items: Sequence[InboxItem]) -> Exception | None:
        if _texts(items) != ("bad",):
            return None
        tries.append("bad")
        return ValueError("a bug")

    world.worker.fails = fail
    await world.say("good", "bad", "better", then=2)
    assert len(tries) == MAX_TRIES
    assert world.worker.parked == [("bad",)]
    assert world.worker.turns == [("good",), ("better",)]
    assert world.lanes.waiting == 0


async def test_a_message_that_cannot_even_be_judged_is_parked_like_any_other(world: World) -> None:
    world.worker.quiet, world.worker.longest = 2.5, 8.0
    world.worker.fails = lambda items: RecursionError() if _texts(items)[0] == "poison" else None
    await world.say("poison", "发货了吗?", then=5)
    assert world.worker.parked == [("poison",)]
    assert world.worker.turns == [("发货了吗?",)]


async def test_a_database_that_is_away_costs_no_tries_and_no_order(world: World) -> None:
    world.worker.fails = lambda items: UnavailableError("away")
    await world.say("1", "2", then=60)
    assert world.worker.parked == []
    world.worker.fails = lambda items: None
    await world.pass_time(1)
    assert world.worker.turns == [("1",), ("2",)]


async def test_parking_is_tried_until_the_database_takes_it(world: World) -> None:
    world.worker.fails = lambda items: ValueError("a bug") if _texts(items) == ("bad",) else None
    world.worker.park_fails = [UnavailableError("away"), StaleTurnError("changed hands")]
    await world.say("bad", "good", then=5)
    assert world.worker.parked == [("bad",)]
    assert world.worker.turns == [("good",)]


async def test_a_turn_decided_on_an_old_state_is_decided_anew(world: World) -> None:
    outcomes = iter([StaleTurnError("changed hands")])
    await world.say("0")
    world.worker.fails = lambda items: next(outcomes, None)
    changed = world.worker.stored["a", "c1"] = record_of("c1", 7)
    await world.say("1")
    assert world.worker.turns == [("0",), ("1",)]
    assert world.worker.seen[-1] is changed


async def test_what_somebody_else_changed_is_read_anew(world: World) -> None:
    await world.say("1")
    loads = len(world.worker.loads)
    await world.say("2")
    assert len(world.worker.loads) == loads
    changed = world.worker.stored["a", "c1"] = record_of("c1", 9)
    world.lanes.forget(1)
    await world.say("3")
    assert world.worker.seen[-1] is changed


async def test_a_change_during_a_turn_is_not_overwritten_by_what_the_turn_saw(world: World) -> None:
    await world.say("1")
    world.worker.gate = asyncio.Event()
    await world.say("2", "3")
    world.lanes.forget(1)
    world.worker.gate.set()
    loads = len(world.worker.loads)
    await world.pass_time()
    assert world.worker.turns == [("1",), ("2",), ("3",)]
    assert len(world.worker.loads) == loads + 1


async def test_what_the_inbox_looked_up_is_not_looked_up_again(world: World) -> None:
    item = world.item("1")
    item.load_conversation = True
    world.lanes.push(item, InboxResult(is_new=True, record=record_of("c1", 3)))
    other = world.item("2", "c2")
    other.load_conversation = True
    world.lanes.push(other, InboxResult(is_new=True, record=None))
    await world.pass_time()
    assert world.worker.loads == []
    assert [seen.stored_version if seen else None for seen in world.worker.seen] == [3, None]
    assert world.lanes.is_cached("a", "c1")


async def test_a_conversation_is_read_as_soon_as_the_database_answers(world: World) -> None:
    world.worker.away = 3
    await world.say("1", then=5)
    assert world.worker.turns == [("1",)]


async def test_a_lost_partition_ends_the_lane_and_is_told(world: World) -> None:
    world.worker.fails = lambda items: FencedError("another process has it")
    await world.say("1", "2")
    assert world.fenced == 1
    assert world.worker.turns == []
    assert world.lanes.waiting == 0


async def test_stopping_ends_after_the_turn_under_way_and_leaves_the_rest_open(world: World) -> None:
    world.worker.gate = asyncio.Event()
    await world.say("1", "2")
    stopping = asyncio.create_task(world.lanes.stop(5))
    await world.pass_time()
    assert not stopping.done()
    world.worker.gate.set()
    await stopping
    assert world.worker.turns == [("1",)]
    world.lanes.push(world.item("3"))
    await world.pass_time()
    assert world.worker.turns == [("1",)]


async def test_stopping_does_not_wait_for_a_burst_or_a_second_try(world: World) -> None:
    world.worker.quiet, world.worker.longest = 2.5, 8.0
    world.worker.fails = lambda items: UnavailableError("away")
    await world.say("在吗", lane="c1")
    await world.say("发货了吗?", lane="c2")
    stopping = asyncio.create_task(world.lanes.stop(5))
    await world.pass_time(1)
    await asyncio.wait_for(stopping, 1)
    assert world.worker.turns == []
    assert world.lanes.waiting == 0


async def test_a_turn_that_hangs_is_given_up_when_the_time_is_over(world: World) -> None:
    world.worker.gate = asyncio.Event()
    await world.say("1")
    await asyncio.wait_for(world.lanes.stop(0.05), 1)
    assert world.worker.turns == []
    assert world.lanes.waiting == 0


async def test_only_so_many_conversations_are_kept_at_hand(clock: FakeClock, ids: FakeIds) -> None:
    world = World(clock, ids)
    world.lanes = Lanes(
        worker=world.worker,
        clock=clock,
        metrics=world.metrics,
        on_fenced=lambda partition: None,
        cache_size=2,
    )
    for lane in ("c1", "c2", "c3"):
        await world.say("1", lane=lane)
    assert [world.lanes.is_cached("a", lane) for lane in ("c1", "c2", "c3")] == [False, True, True]
    assert world.lanes.record_of(1) is None
