"""An event loop whose time is virtual, and the hosts on it: each runs, stands still or is dead.

Whatever is scheduled belongs to the host in whose context it was scheduled, so that a host can be stopped as by
SIGSTOP, or killed, between any two steps of its coroutines, without their noticing anything. Steps of one host keep
their order, as on a real loop; which host's step comes next is chance, drawn from the seed.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = ["Host", "Stuck", "VirtualLoop"]

START_MS = 1_795_248_000_000
"""The wall clock at virtual time 0."""

MOST_STEPS = 2_000_000
"""Steps in one run, beyond which something runs in circles."""


class Stuck(AssertionError):  # noqa: N818 - it is a finding, not a fault of the simulation
    """Nothing will ever happen any more, or too much happens without end."""


class Host:
    """What runs on one machine: a queue of steps, and a clock that may be wrong.

    ``skew_ms`` is how far its wall clock is off, ``rate`` how fast its clocks run.
    """

    def __init__(self, loop: VirtualLoop, name: str, *, skew_ms: int = 0, rate: float = 1.0) -> None:
        self.loop = loop
        self.name = name
        self.skew_ms = skew_ms
        self.rate = rate
        self.ready: deque[asyncio.Handle] = deque()
        self.is_stopped = False
        self.is_dead = False
        self.context = contextvars.copy_context()
        self.context.run(_HOST.set, self)

    def now_ms(self) -> int:
        """The wall clock of this machine, in milliseconds since 1970 UTC."""
        return START_MS + self.skew_ms + round(self.loop.time() * self.rate * 1000)

    def monotonic(self) -> float:
        """Seconds since some moment, by this machine's oscillator."""
        return 1_000.0 + self.loop.time() * self.rate

    async def sleep(self, seconds: float) -> None:
        """Wait by this machine's clock."""
        # The loop's time is the simulation's; nothing really sleeps.
        await asyncio.sleep(max(0.0, seconds) / self.rate)  # noqa: TID251

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine on this machine."""
        return self.loop.create_task(coroutine, context=self.context)

    def after(self, seconds: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call something on this machine, later."""
        return self.loop.call_at(self.loop.time() + seconds, callback, *args, context=self.context)

    def __repr__(self) -> str:
        return self.name


_HOST: contextvars.ContextVar[Host | None] = contextvars.ContextVar("simulated_host", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs steps; when none is left, time jumps to the next timer."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self._chance = chance
        self._virtual = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0
        self._steps = 0
        self.problems: list[BaseException] = []
        self.world = Host(self, "world")
        self.hosts = [self.world]
        self.set_exception_handler(self._note_problem)

    def add_host(self, name: str, *, skew_ms: int, rate: float) -> Host:
        """Add a machine."""
        host = Host(self, name, skew_ms=skew_ms, rate=rate)
        self.hosts.append(host)
        return host

    def time(self) -> float:
        return self._virtual

    def call_soon(
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._owner(handle).ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._virtual + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def _owner(self, handle: asyncio.Handle) -> Host:
        return handle._context.get(_HOST) or self.world

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _note_problem(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        self.problems.append(problem or RuntimeError(context["message"]))

    def _run_once(self) -> None:
        able = [host for host in self.hosts if host.ready and not host.is_stopped and not host.is_dead]
        if not able:
            self._jump()
            return
        host = able[0] if len(able) == 1 else able[int(self._chance.random() * len(able))]
        # A few at once: a process isn't taken from its processor after every step.
        for _ in range(min(len(host.ready), 1 + int(self._chance.random() * 8))):
            handle = host.ready.popleft()
            if not handle._cancelled:
                self._steps += 1
                handle._run()
            if host.is_stopped or host.is_dead or not host.ready:
                break
        if self._steps > MOST_STEPS:
            raise Stuck(f"more than {MOST_STEPS} steps")

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Stuck("everybody waits, and for nothing")
        self._virtual = max(self._virtual, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._virtual:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled():
                self._owner(timer).ready.append(timer)

    def tear_down(self) -> None:
        """End every task, also of the dead, so that nothing is left for the garbage collector to complain of."""
        for host in self.hosts:
            host.is_stopped = host.is_dead = False
        for _ in range(20):
            tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            for _ in range(50):
                if not any(host.ready for host in self.hosts):
                    break
                self._run_all()
        self.close()

    def _run_all(self) -> None:
        asyncio.events._set_running_loop(self)
        try:
            for host in self.hosts:
                for _ in range(len(host.ready)):
                    handle = host.ready.popleft()
                    if not handle._cancelled:
                        handle._run()
        finally:
            asyncio.events._set_running_loop(None)
