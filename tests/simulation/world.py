"""One run: the processes, what buyers and agents do, what goes wrong, and the coming to rest."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.core.errors import HuojiError, UnavailableError
from app.core.metrics import Metrics
from app.desk.people import User
from app.desk.permissions import Role
from app.domain.messages import Content
from tests.simulation.loop import Host, Stuck, VirtualLoop
from tests.simulation.network import Air, Line, Marketplace
from tests.simulation.oracle import Oracle, Posted
from tests.simulation.parts import delivery_of
from tests.simulation.plan import Plan, Step
from tests.simulation.process import Process, Surroundings
from tests.simulation.rows import Rows
from tests.simulation.store import Request, Store, Tell, Weather

__all__ = ["Run", "run_plan"]

REST_SECONDS = 600.0
"""Virtual seconds until everything must be at rest, once all faults are over: the longest pause between two sends is
5 minutes."""

ANSWER_SECONDS = 5.0
"""How long the marketplace waits for an ack."""

AGENT = User(id=7, name="agent", display_name="agent", role=Role.SUPERVISOR)


@dataclass(slots=True)
class Run:
    """How a run went: what is wrong (nothing, mostly), what happened, and how long it took in virtual seconds."""

    findings: list[str]
    trace: list[tuple[float, tuple[object, ...]]]
    seconds: float
    counts: dict[str, int] = field(default_factory=dict[str, int])


def run_plan(seed: int, plan: Plan, rows: Rows, metrics: Metrics, *, without: Collection[int] = ()) -> Run:
    """Run a plan, leaving out some of its steps."""
    rows.clear()
    loop = VirtualLoop(Random(f"steps {seed}"))
    world = _World(seed, plan, rows, metrics, loop)
    try:
        asyncio.events._set_running_loop(None)
        loop.run_until_complete(
            loop.create_task(
                world.run([step for number, step in enumerate(plan.steps) if number not in without]),
                context=loop.world.context,
            )
        )
    except Stuck as problem:
        world.oracle.found(str(problem))
    finally:
        world.tear_down()
    return Run(world.oracle.findings, world.trace, loop.time(), world.counts())


class _World:
    def __init__(self, seed: int, plan: Plan, rows: Rows, metrics: Metrics, loop: VirtualLoop) -> None:
        self._seed = seed
        self._plan = plan
        self._loop = loop
        self._rows = rows
        self.trace: list[tuple[float, tuple[object, ...]]] = []
        self.oracle = Oracle(rows, loop.time, lambda host: self._prefixes.get(host, "?"))
        self._store = Store(loop, rows, self._chance("store"), on_commit=self._committed, note=self._note)
        marketplace = self._marketplace = Marketplace(
            loop, self._chance("marketplace"), note=self._note, on_send=self._sends
        )
        self._air = Air(loop, self._chance("air"))
        self._air.lost = plan.hints_lost
        self._around = Surroundings(
            store=self._store, marketplace=marketplace, air=self._air, metrics=metrics,
            burst_quiet=plan.burst_quiet, on_check=self._asks, on_heard=self.oracle.hears, gone=set(),
        )  # fmt: skip
        self._processes: list[Process | None] = [None] * plan.processes
        self._prefixes: dict[Host, str] = {}
        self._calls: dict[Process, set[asyncio.Future[Any]]] = {}
        self._stalls_asking: dict[int, float] = {}
        """Slots whose process stands still when it next asks whether a reply may leave, and for how long."""
        self._started = 0
        self._acked: dict[str, asyncio.Event] = {}
        self._latest: dict[tuple[str, str], str] = {}
        self._pending: set[asyncio.Task[Any]] = set()

    def _chance(self, what: str) -> Random:
        return Random(f"{what} {self._seed}")

    def _note(self, *what: object) -> None:
        self.trace.append((self._loop.time(), what))

    def _committed(self, request: Request, told: list[Tell]) -> None:
        moved: dict[str, list[int]] = {}
        for tell in told:
            if tell[0] == "lease":
                moved.setdefault(tell[2], []).append(tell[1])
            elif tell[0] != "conversation":
                self._note(request.host.name, "commits", *tell)
        for owner, partitions in moved.items():
            self._note(
                request.host.name, "commits", "lease",
                f"of {len(partitions)} from {min(partitions)} to {max(partitions)} for {owner or 'nobody'}",
            )  # fmt: skip
        self.oracle.committed(request, told)

    def _sends(self, host: Host, key: str) -> None:
        self._note(host.name, "sends", key)
        self.oracle.sends(host, key)

    def counts(self) -> dict[str, int]:
        """How much happened."""
        arrivals = self._marketplace.arrivals
        return {
            "messages": len(self.oracle.posted),
            "arrivals": len(arrivals),
            "repeats": len(arrivals) - len({arrival.key for arrival in arrivals}),
            "processes": self._started,
        }

    def tear_down(self) -> None:
        """Leave nothing behind."""
        self._store.away = {None: "refuse"}
        self._loop.tear_down()

    # --- the whole ---

    async def run(self, steps: list[Step]) -> None:
        """Do every step at its time, mend everything, wait until all is at rest, and judge."""
        for slot in range(self._plan.processes):
            self._begin(slot)
        await self._until_ready()
        began = self._loop.time()
        for step in steps:
            self._loop.world.after(began + step.at - self._loop.time(), self._do, step)
        await self._sleep(
            max((step.at + step.values.get("seconds", 0.0) for step in steps), default=0.0) + 0.1
        )
        self._mend()
        until = self._loop.time() + REST_SECONDS
        while self._pending or self._marketplace.on_the_way or not self.oracle.is_at_rest():
            if self._loop.time() > until:
                self.oracle.found(f"not at rest {REST_SECONDS:.0f} s after the last fault")
                break
            await self._sleep(0.25)
        await self._sleep(1.5)
        for problem in self._loop.problems:
            self.oracle.found(f"unhandled: {problem!r}")
        self.oracle.judge(self._marketplace.arrivals)

    async def _sleep(self, seconds: float) -> None:
        await self._loop.world.sleep(seconds)

    async def _until_ready(self) -> None:
        while not all(process is not None and process.is_ready for process in self._processes):
            await self._sleep(0.05)

    def _do(self, step: Step) -> None:
        if step.what not in ("message", "say"):
            self._note("world", step.what, step.values)
        action = getattr(self, f"_{step.what}")(**step.values)
        if isinstance(action, Coroutine):
            task = self._loop.world.spawn(action)
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    def _mend(self) -> None:
        self._note("world", "mends everything")
        self._store.weather = Weather()
        self._store.away.clear()
        self._store.reachable()
        self._marketplace.line = Line()
        self._air.lost = self._plan.hints_lost
        for slot, process in enumerate(self._processes):
            if process is None:
                self._begin(slot)
            else:
                process.host.is_stopped = False

    # --- processes ---

    def _begin(self, slot: int) -> None:
        if self._processes[slot] is not None:
            return
        self._started += 1
        host = self._loop.add_host(
            f"p{slot}.{self._started}", skew_ms=self._plan.skews_ms[slot], rate=self._plan.rates[slot]
        )
        identity = f"machine/{self._started}" if self._plan.one_machine else ""
        process = Process(
            host, self._started, self._around, self._chance(f"process {self._started}"), identity=identity
        )
        self._prefixes[host] = process.prefix
        self._processes[slot] = process
        self._calls[process] = set()
        self._note("world", "starts", host.name)
        host.spawn(process.start())

    def _end(self, slot: int, process: Process) -> None:
        if self._processes[slot] is not process:
            return
        process.host.is_dead = True
        self._processes[slot] = None
        self._air.buses.pop(process.host, None)
        self._around.gone.add(process.identity)  # pyright: ignore[reportAttributeAccessIssue]
        for future in self._calls.pop(process):
            if not future.done():
                future.set_exception(ConnectionResetError("the process has gone"))

    async def _kill(self, slot: int, seconds: float) -> None:
        process = self._processes[slot]
        if process is not None:
            self._end(slot, process)
        await self._sleep(seconds)
        self._begin(slot)

    async def _restart(self, slot: int, seconds: float) -> None:
        process = self._processes[slot]
        if process is None or not process.is_ready:
            return
        with contextlib.suppress(ConnectionError, TimeoutError):
            await self._call(process, lambda: process.stop(5.0), 30.0)
        self._end(slot, process)
        await self._sleep(seconds)
        self._begin(slot)

    async def _stall(self, slot: int, seconds: float) -> None:
        process = self._processes[slot]
        if process is None:
            return
        process.host.is_stopped = True
        await self._sleep(seconds)
        process.host.is_stopped = False
        self._note("world", "continues", process.host.name)

    def _stall_asking(self, slot: int, seconds: float) -> None:
        self._stalls_asking[slot] = seconds

    def _asks(self, host: Host, outbox_id: int) -> None:
        self.oracle.checks(host, outbox_id)
        for slot in list(self._stalls_asking):
            process = self._processes[slot]
            if process is not None and process.host is host:
                self._note("world", "stalls", host.name)
                task = self._loop.world.spawn(self._stall(slot, self._stalls_asking.pop(slot)))
                self._pending.add(task)
                task.add_done_callback(self._pending.discard)

    def _jump(self, slot: int, by_ms: int) -> None:
        process = self._processes[slot]
        self._plan.skews_ms[slot] += by_ms
        if process is not None:
            process.host.skew_ms += by_ms

    # --- lines ---

    async def _outage(self, way: str, seconds: float) -> None:
        await self._away(None, way, seconds)

    async def _cut_off(self, slot: int, way: str, seconds: float) -> None:
        process = self._processes[slot]
        if process is not None:
            await self._away(process.host, way, seconds)

    async def _away(self, host: Host | None, way: str, seconds: float) -> None:
        self._store.away[host] = way
        await self._sleep(seconds)
        self._store.away.pop(host, None)
        self._store.reachable()

    async def _bad_store(self, seconds: float, **values: float) -> None:
        self._store.weather = Weather(**values)
        await self._sleep(seconds)
        self._store.weather = Weather()

    async def _bad_line(self, seconds: float, **values: float) -> None:
        self._marketplace.line = Line(**values)
        await self._sleep(seconds)
        self._marketplace.line = Line()

    async def _lose_hints(self, seconds: float, lost: float) -> None:
        self._air.lost = max(lost, self._plan.hints_lost)
        await self._sleep(seconds)
        self._air.lost = self._plan.hints_lost
        if self._plan.hints_lost == 0.0:
            self._air.found_again()

    # --- buyers and agents ---

    async def _call(
        self, process: Process, action: Callable[[], Coroutine[Any, Any, Any]], seconds: float
    ) -> Any:
        """Have a process do something, as a request over the network; ConnectionError when it dies meanwhile."""
        future: asyncio.Future[Any] = self._loop.create_future()
        calls = self._calls.get(process)
        if calls is None:
            raise ConnectionRefusedError("there is no such process")
        calls.add(future)

        def answer(task: asyncio.Task[Any]) -> None:
            error = None if task.cancelled() else task.exception()
            if future.done():
                return
            if task.cancelled():
                future.set_exception(ConnectionResetError("broken off"))
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        def begin() -> None:
            task = self._loop.create_task(action())
            # The answer leaves the process right away; it is read here a moment later.
            task.add_done_callback(lambda done: self._loop.world.after(0.001, answer, done))

        process.host.after(0.001, begin)
        try:
            async with asyncio.timeout(seconds):
                return await future
        finally:
            calls.discard(future)
            if future.done() and not future.cancelled():
                future.exception()

    def _message(
        self, account: str, conversation: str, name: str, text: str, waits: bool, copies: int
    ) -> Coroutine[Any, Any, None]:
        posted = Posted(account, conversation, name, text)
        self.oracle.posted[name] = posted
        self._acked[name] = asyncio.Event()
        before = self._latest.get((account, conversation)) if waits else None
        self._latest[account, conversation] = name
        return self._deliver(posted, before, copies)

    async def _deliver(self, posted: Posted, before: str | None, copies: int) -> None:
        if before is not None:
            await self._acked[before].wait()
        chance = self._chance(f"message {posted.name}")
        posted.posted_at = self._loop.time()
        for _ in range(copies):
            task = self._loop.world.spawn(
                self._copy(posted, chance.choice((0.0, 0.01, 1.0, 10.0)) * chance.random(), chance)
            )
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
        pause = 0.1
        while not await self._post(posted, chance):
            await self._sleep(pause * (0.5 + chance.random()))
            pause = min(2.0, pause * 2)

    async def _copy(self, posted: Posted, seconds: float, chance: Random) -> None:
        await self._sleep(seconds)
        await self._post(posted, chance)

    async def _post(self, posted: Posted, chance: Random) -> bool:
        process = self._processes[chance.randrange(len(self._processes))]
        if process is None or not process.is_ready:
            return False
        delivery = delivery_of(posted.name, posted.conversation, posted.text)
        self._note("marketplace", "posts", posted.name, f"to {process.host.name}")
        try:
            await self._call(process, lambda: process.accept(posted.account, delivery), ANSWER_SECONDS)
        except (HuojiError, ConnectionError, TimeoutError) as error:
            self._note("marketplace", "is refused", posted.name, f"by {process.host.name}: {error!r}")
            return False
        self._note("marketplace", "is acked", posted.name, f"by {process.host.name}")
        if posted.acked_at is None:
            posted.acked_at = self._loop.time()
            self._acked[posted.name].set()
        return True

    async def _as_agent(self, conversation: str, action: Callable[[Process, int], Any], what: str) -> None:
        chance = self._chance(f"agent {conversation} {what} {self._loop.time()}")
        found = self._rows.all("SELECT id FROM conversations WHERE external_id = ?", conversation)
        if not found:
            return
        for _ in range(4):
            process = self._processes[chance.randrange(len(self._processes))]
            if process is not None and process.is_ready:
                try:
                    await self._call(process, lambda process=process: action(process, found[0][0]), 10.0)
                except (UnavailableError, ConnectionError, TimeoutError):
                    pass
                except HuojiError as error:
                    self._note("agent", "can't", what, conversation, error.code)
                    return
                else:
                    self._note("agent", "did", what, conversation, f"at {process.host.name}")
                    return
            await self._sleep(0.2)

    def _take_over(self, conversation: str) -> Coroutine[Any, Any, None]:
        return self._as_agent(
            conversation, lambda process, one: process.conversations.take_over(AGENT, one), "take over"
        )

    def _say(self, conversation: str, text: str) -> Coroutine[Any, Any, None]:
        return self._as_agent(
            conversation,
            lambda process, one: process.sending.send(
                AGENT, one, Content(text=text), client_message_id=text, confirm=True
            ),
            text,
        )

    def _give_back(self, conversation: str) -> Coroutine[Any, Any, None]:
        return self._as_agent(
            conversation, lambda process, one: process.conversations.release(AGENT, one), "give back"
        )
