"""The sender: order, retries, breaker, pauses and stopping, on a clock that the tests move."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.channels.base import ChannelAdapter
from app.channels.http import OutcomeUnknownError, PeerUnavailableError
from app.channels.registry import Registry
from app.core.errors import UnavailableError
from app.core.metrics import Metrics
from app.delivery.marks import DeliveryMark
from app.delivery.outbox import BOT_DEADLINE_MS, OutboxItem, new_item
from app.delivery.service import IN_FLIGHT_PER_ACCOUNT, DeliveryService
from app.domain.delivery import Account, WireRequest, WireResponse
from app.domain.messages import Author, Content
from tests.fakes import FakeClock, FakeIds

Answer = int | WireResponse | Exception


class Writer:
    """Stores marks at once; away while `is_away`."""

    def __init__(self) -> None:
        self.marks: list[DeliveryMark] = []
        self.is_away = False

    def submit(
        self, _operation: object, mark: DeliveryMark, *, lingers: bool = False
    ) -> asyncio.Future[None]:
        """Keep a mark."""
        if self.is_away:
            raise UnavailableError("away")
        self.marks.append(mark)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


@dataclass
class Accounts:
    """Accounts by id, and what was paused."""

    adapters: Registry = field(default_factory=Registry)
    found: dict[str, Account] = field(default_factory=dict)
    paused: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, *, is_paused: bool = False) -> None:
        """Put an account there, or change it."""
        self.found[name] = Account(
            id=name,
            channel="generic",
            shop_id="s",
            secrets=(b"k" * 32,),
            settings={"callback_url": f"https://{name}.example.com/"},
            is_paused=is_paused,
        )

    def account(self, account_id: str) -> Account | None:
        return self.found.get(account_id)

    def adapter(self, account: Account) -> ChannelAdapter:
        return self.adapters.for_account(account)

    async def pause(self, account_id: str, reason: str) -> None:
        self.paused.append((account_id, reason))
        self.add(account_id, is_paused=True)


class Client:
    """Answers as the test decides; every request is kept with its time."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.sent: list[tuple[float, str, str]] = []
        self.answer: Callable[[str, str], Answer] = lambda host, key: 200
        self.gate: asyncio.Event | None = None
        self.under_way = 0
        self.most_under_way = 0

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse:
        """Note the request, wait for the gate where there is one, and answer."""
        host = request.url.split("/")[2].split(".")[0]
        headers = {name.lower(): value for name, value in dict(request.headers).items()}
        key = headers["webhook-id"]
        self.sent.append((self._clock.monotonic(), host, key))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.under_way -= 1
        answer = self.answer(host, key)
        if isinstance(answer, Exception):
            raise answer
        return WireResponse(status=answer, headers={}, body=b"") if isinstance(answer, int) else answer

    def keys(self, host: str = "a") -> list[str]:
        """The keys sent to one account, in order."""
        return [key for _, name, key in self.sent if name == host]

    def times(self, host: str = "a") -> list[float]:
        """When something was sent to one account, in seconds."""
        return [at for at, name, _ in self.sent if name == host]


class Hooks:
    """Remembers what it was told; conversations in `human` belong to a person."""

    def __init__(self) -> None:
        self.human: set[int] = set()
        self.dropped: set[int] = set()
        self.marked: list[tuple[int, str]] = []
        self.fails = 0

    async def is_superseded(self, item: OutboxItem) -> bool:
        """Whether the bot must be silent."""
        if self.fails:
            self.fails -= 1
            raise UnavailableError("away")
        return item.conversation_id in self.human or item.id in self.dropped

    def delivery_event(
        self, item: OutboxItem, status: str, error: str | None, now_ms: int
    ) -> dict[str, Any] | None:
        """An event for whoever watches."""
        return {"status": status, "error": error}

    def append_events(self, connection: object, rows: Sequence[dict[str, Any]]) -> None:
        """Never called: no mark reaches a database here."""

    def on_marked(self, item: OutboxItem, mark: DeliveryMark) -> None:
        """Keep the outcome."""
        self.marked.append((item.id, mark.state))


class World:
    """A sender with everything around it faked."""

    def __init__(self, clock: FakeClock, ids: FakeIds, **options: Any) -> None:
        self.clock, self.ids = clock, ids
        self.writer, self.accounts, self.client, self.hooks = Writer(), Accounts(), Client(clock), Hooks()
        self.accounts.add("a")
        self.accounts.add("b")
        self.service = DeliveryService(
            database=cast(Any, SimpleNamespace(writer=self.writer)),
            directory=self.accounts,
            client=self.client,
            clock=clock,
            ids=ids,
            metrics=Metrics(),
            hooks=self.hooks,
            **options,
        )

    def item(
        self,
        conversation: int = 1,
        *,
        account: str = "a",
        supersedable: bool = True,
        author: Author = Author.BOT,
    ) -> OutboxItem:
        """Make an item that is due now."""
        return new_item(
            ids=self.ids,
            conversation_id=conversation,
            conversation_external_id=f"c-{conversation}",
            account_id=account,
            partition=0,
            message_id=self.ids.next(),
            author=author,
            content=Content(text="亲，在的"),
            now_ms=self.clock.now_ms(),
            in_reply_to=None,
            answers=None,
            supersedable=supersedable,
        )

    def send(self, *items: OutboxItem) -> None:
        """Give items to the sender."""
        self.service.enqueued(items)

    async def pass_time(self, by: timedelta | float = 0) -> None:
        """Let time pass for everybody."""
        await self.clock.run_for(by, turns=30)

    def states(self) -> list[str]:
        """The states that were stored, in order."""
        return [mark.state for mark in self.writer.marks]


@pytest.fixture
async def world(clock: FakeClock, ids: FakeIds) -> AsyncIterator[World]:
    """A sender that is stopped at the end."""
    world = World(clock, ids)
    yield world
    await world.service.stop(0.1)


async def test_a_conversations_messages_leave_one_after_the_other(world: World) -> None:
    world.client.gate = asyncio.Event()
    first, second, other = world.item(1), world.item(1), world.item(2)
    world.send(first, second, other)
    await world.pass_time()
    assert world.client.keys() == [f"msg_{first.id}", f"msg_{other.id}"]
    world.client.gate.set()
    await world.pass_time()
    assert world.client.keys() == [f"msg_{first.id}", f"msg_{other.id}", f"msg_{second.id}"]
    assert world.states() == ["sent", "sent", "sent"]
    assert world.service.waiting == 0


async def test_what_follows_waits_for_a_failing_message_and_the_key_stays_the_same(world: World) -> None:
    answers = iter([503, 503, 200, 200])
    world.client.answer = lambda host, key: next(answers)
    first, second = world.item(1), world.item(1)
    world.send(first, second)
    await world.pass_time(10)
    assert world.client.keys() == [f"msg_{first.id}"] * 3 + [f"msg_{second.id}"]
    assert world.states() == ["open", "open", "sent", "sent"]


async def test_delays_grow_from_a_second_to_five_minutes(world: World) -> None:
    world.client.answer = lambda host, key: 408
    world.send(world.item())
    await world.pass_time(timedelta(hours=1))
    times = world.client.times()
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]
    # Half of the jitter: five eighths of 1, 2, 4 … 300 s.
    assert gaps[:4] == [0.625, 1.25, 2.5, 5.0]
    assert max(gaps) == 187.5


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 302])
async def test_what_may_pass_is_tried_again(world: World, status: int) -> None:
    answers = iter([status, 204])
    world.client.answer = lambda host, key: next(answers)
    world.send(world.item())
    await world.pass_time(2)
    assert world.states() == ["open", "sent"]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_what_can_never_pass_is_given_up_and_the_next_message_goes_on(
    world: World, status: int
) -> None:
    answers = iter([status, 200])
    world.client.answer = lambda host, key: next(answers)
    refused, next_one = world.item(), world.item()
    world.send(refused, next_one)
    await world.pass_time()
    assert world.states() == ["failed", "sent"]
    assert world.hooks.marked == [(refused.id, "failed"), (next_one.id, "sent")]
    assert str(status) in (world.writer.marks[0].error or "")


async def test_nothing_sent_and_perhaps_sent_are_told_apart(world: World) -> None:
    answers = iter([PeerUnavailableError("no route"), OutcomeUnknownError("cut"), 200])
    world.client.answer = lambda host, key: next(answers)
    item = world.item()
    world.send(item)
    await world.pass_time(5)
    assert [mark.message_status for mark in world.writer.marks] == ["queued", "unconfirmed", "sent"]
    assert set(world.client.keys()) == {f"msg_{item.id}"}


async def test_a_message_past_its_deadline_is_given_up_unsent(world: World) -> None:
    world.client.answer = lambda host, key: 503
    world.send(world.item())
    await world.pass_time(timedelta(milliseconds=BOT_DEADLINE_MS) + timedelta(minutes=6))
    assert world.states()[-1] == "failed"
    assert world.writer.marks[-1].error == "expired"
    assert world.service.waiting == 0


async def test_retry_after_is_honoured_for_the_whole_account_and_for_no_other(world: World) -> None:
    limited = WireResponse(status=429, headers={"retry-after": "30"}, body=b"")
    world.client.answer = lambda host, key: limited if host == "a" else 200
    world.send(world.item(1))
    await world.pass_time(0.1)
    world.send(world.item(2), world.item(3), world.item(4, account="b"))
    await world.pass_time(29)
    assert len(world.client.times("a")) == 1
    assert len(world.client.times("b")) == 1
    world.client.answer = lambda host, key: 200
    await world.pass_time(5)
    assert world.states().count("sent") == 4
    assert min(world.client.times("a")[1:]) >= world.client.times("a")[0] + 30


async def test_after_five_failures_an_account_is_left_alone_and_then_tried_by_one_message(
    world: World,
) -> None:
    world.client.answer = lambda host, key: 500 if host == "a" else 200
    world.send(*(world.item(number) for number in range(1, 6)))
    await world.pass_time(0.1)
    assert "a" in world.service.open_breakers
    began = world.service.oldest_created_ms
    world.send(*(world.item(number) for number in range(6, 30)), world.item(99, account="b"))
    await world.pass_time(0.5)
    assert (world.service.open_breakers, world.service.oldest_created_ms) == ({"a"}, began)
    assert began is not None
    assert len(world.client.keys("a")) == 5
    assert world.client.keys("b") != []
    await world.pass_time(0.6)
    assert len(world.client.keys("a")) == 6
    world.client.answer = lambda host, key: 200
    await world.pass_time(20)
    assert "a" not in world.service.open_breakers
    assert (world.service.open_breakers, world.service.oldest_created_ms) == (set(), None)
    assert world.states().count("sent") == 30


@pytest.mark.parametrize("probe", ["limited", "superseded", "storage"])
async def test_a_probe_that_comes_to_nothing_does_not_shut_the_account_for_ever(
    world: World, probe: str
) -> None:
    world.client.answer = lambda host, key: 500
    items = [world.item(number) for number in range(1, 6)]
    world.send(*items)
    await world.pass_time(0.1)
    assert "a" in world.service.open_breakers
    limited = WireResponse(status=429, headers={"retry-after": "1"}, body=b"")
    answers = iter([limited] if probe == "limited" else [])
    world.client.answer = lambda host, key: next(answers, 200)
    if probe == "superseded":
        world.hooks.human.add(1)
    if probe == "storage":
        world.hooks.fails = 1
    await world.pass_time(60)
    assert "a" not in world.service.open_breakers
    assert world.service.waiting == 0
    assert world.states().count("sent") == (4 if probe == "superseded" else 5)


@pytest.mark.parametrize("status", [401, 403, 410])
async def test_a_refused_account_is_paused_and_its_replies_wait_until_it_is_resumed(
    world: World, status: int
) -> None:
    world.client.answer = lambda host, key: status
    world.send(world.item(1))
    await world.pass_time(1)
    world.send(world.item(2), world.item(3, account="b"))
    await world.pass_time(timedelta(minutes=10))
    assert [name for name, _ in world.accounts.paused] == ["a", "b"]
    assert len(world.client.keys("a")) == 1
    world.client.answer = lambda host, key: 200
    world.accounts.add("a")
    await world.pass_time(2)
    assert world.client.keys("a") == [world.client.keys("a")[0]] * 2 + world.client.keys("a")[2:]
    assert world.states().count("sent") == 2


async def test_the_bots_answer_is_dropped_when_a_human_has_the_conversation(world: World) -> None:
    world.hooks.human.add(1)
    answer, apology = world.item(1), world.item(1, supersedable=False)
    world.send(answer, apology)
    await world.pass_time()
    assert world.client.keys() == [f"msg_{apology.id}"]
    assert [(mark.state, mark.error) for mark in world.writer.marks] == [
        ("dropped", "superseded"),
        ("sent", None),
    ]


async def test_a_human_who_takes_over_between_two_tries_stops_the_third(world: World) -> None:
    world.client.answer = lambda host, key: 503
    item = world.item(1)
    world.send(item)
    await world.pass_time(0.1)
    world.hooks.human.add(1)
    await world.pass_time(30)
    assert len(world.client.keys()) == 1
    assert world.states()[-1] == "dropped"


async def test_a_reply_dropped_while_it_waited_stays_dropped_when_the_human_has_gone(world: World) -> None:
    world.client.answer = lambda host, key: 503
    item = world.item(1)
    world.send(item)
    await world.pass_time(0.1)
    world.hooks.dropped.add(item.id)
    await world.pass_time(30)
    assert len(world.client.keys()) == 1


async def test_messages_of_a_removed_account_are_given_up(world: World) -> None:
    world.accounts.found.clear()
    world.send(world.item())
    await world.pass_time()
    assert [(mark.state, mark.error) for mark in world.writer.marks] == [("failed", "account_removed")]


async def test_an_adapter_that_fails_costs_its_message_and_not_its_conversation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = world.accounts.adapter(cast(Account, world.accounts.account("a")))
    broken, fine = world.item(1), world.item(1)

    def build(message: Any, account: Account, *, now_ms: int) -> WireRequest:
        if message.key == f"msg_{broken.id}":
            raise ValueError("a bug")
        return real.build_request(message, account, now_ms=now_ms)

    adapter = SimpleNamespace(build_request=build, read_response=real.read_response)
    monkeypatch.setattr(world.accounts, "adapter", lambda account: adapter)
    world.send(broken, fine)
    await world.pass_time()
    assert world.states() == ["failed", "sent"]
    assert world.writer.marks[0].error == "ValueError"


async def test_what_was_delivered_is_marked_before_anything_else_of_its_conversation_leaves(
    world: World,
) -> None:
    world.writer.is_away = True
    first, second = world.item(), world.item()
    world.send(first, second)
    await world.pass_time(5)
    assert world.client.keys() == [f"msg_{first.id}"]
    world.writer.is_away = False
    await world.pass_time(1)
    assert world.client.keys() == [f"msg_{first.id}", f"msg_{second.id}"]
    assert world.states() == ["sent", "sent"]


async def test_an_item_is_not_taken_twice(world: World) -> None:
    world.client.gate = asyncio.Event()
    item = world.item()
    world.send(item)
    world.send(item)
    await world.pass_time()
    world.client.gate.set()
    await world.pass_time()
    assert len(world.client.keys()) == 1


async def test_an_account_has_so_many_requests_under_way_and_no_more(clock: FakeClock, ids: FakeIds) -> None:
    world = World(clock, ids)
    world.client.gate = asyncio.Event()
    world.send(*(world.item(number) for number in range(1, 200)))
    await world.pass_time()
    assert world.client.under_way == IN_FLIGHT_PER_ACCOUNT
    world.client.gate.set()
    await clock.run_for(0, turns=2000)
    assert world.client.most_under_way == IN_FLIGHT_PER_ACCOUNT
    assert world.states() == ["sent"] * 199
    await world.service.stop(0.1)


async def test_stopping_sends_what_can_leave_and_takes_nothing_new(world: World) -> None:
    world.client.gate = asyncio.Event()
    first, second = world.item(1), world.item(1)
    world.send(first, second)
    await world.pass_time()
    stopping = asyncio.create_task(world.service.stop(5))
    await world.pass_time()
    assert not stopping.done()
    world.client.gate.set()
    await stopping
    assert world.states() == ["sent", "sent"]
    world.send(world.item(2))
    await world.pass_time()
    assert len(world.client.keys()) == 2


async def test_stopping_does_not_wait_for_retries_pauses_or_breakers(world: World) -> None:
    world.client.answer = lambda host, key: 503 if host == "a" else 410
    world.send(*(world.item(number) for number in range(1, 8)), world.item(8, account="b"))
    await world.pass_time(0.1)
    await asyncio.wait_for(world.service.stop(5), 1)
    assert "sent" not in world.states()
    assert set(world.states()) == {"open"}


async def test_stopping_gives_up_on_a_peer_that_hangs(world: World) -> None:
    world.client.gate = asyncio.Event()
    world.send(world.item())
    await world.pass_time()
    await asyncio.wait_for(world.service.stop(0.05), 1)
    assert world.states() == []
