"""What lies between processes and the rest of the world: the marketplace's line, and the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import orjson

from app.bus.base import Heard
from app.bus.pending import PendingHints
from app.channels.http import OutcomeUnknownError, PeerUnavailableError
from app.domain.delivery import WireRequest, WireResponse
from tests.simulation.loop import Host, VirtualLoop

__all__ = ["Air", "Arrival", "Bus", "Client", "Line", "Marketplace"]


@dataclass(slots=True)
class Line:
    """Chances of what may befall a send, and how long it travels (seconds)."""

    quickest: float = 0.005
    slowest: float = 0.08
    refused: float = 0.0
    failed: float = 0.0
    busy: float = 0.0
    unheard: float = 0.0
    hangs: float = 0.0
    doubled: float = 0.0


@dataclass(slots=True)
class Arrival:
    """One message that reached the marketplace."""

    at: float
    key: str
    conversation: str
    text: str
    sender: str


class Marketplace:
    """The receiver of replies. It takes whatever arrives, as often as it arrives."""

    def __init__(
        self,
        loop: VirtualLoop,
        chance: Random,
        *,
        note: Callable[..., None],
        on_send: Callable[[Host, str], None],
    ) -> None:
        """``on_send`` hears of every request at the moment it leaves a process, with its key."""
        self._loop = loop
        self._world = loop.world
        self._chance = chance
        self._note = note
        self._on_send = on_send
        self.line = Line()
        self.arrivals: list[Arrival] = []
        self.on_the_way = 0
        """Requests that left and may still arrive."""

    def _travel(self) -> float:
        line = self.line
        return line.quickest + (line.slowest - line.quickest) * self._chance.random() ** 3

    async def send(self, host: Host, request: WireRequest, seconds: float) -> WireResponse:
        """Carry a request there and its answer back, if all goes well."""
        key, conversation, text = orjson.loads(request.body)
        self._on_send(host, key)
        future: asyncio.Future[WireResponse] = self._loop.create_future()
        draw, line = self._chance.random(), self.line
        arrival = Arrival(0.0, key, conversation, text, host.name)
        if draw < line.refused:
            self._later(self._travel(), future, PeerUnavailableError("no connection"))
        elif (draw := draw - line.refused) < line.failed:
            self._later(2 * self._travel(), future, WireResponse(status=503, headers={}, body=b""))
        elif (draw := draw - line.failed) < line.busy:
            self._later(2 * self._travel(), future, WireResponse(status=429, headers={}, body=b""))
        elif (draw := draw - line.busy) < line.unheard:
            if self._chance.random() < 0.5:
                self._carry(self._travel(), arrival)
            self._later(2 * self._travel(), future, OutcomeUnknownError("the line was cut"))
        elif (draw := draw - line.unheard) < line.hangs:
            # The request lies somewhere; it arrives, if ever, when the sender may have given it up.
            if self._chance.random() < 0.5:
                self._carry(self._chance.random() * (seconds + 5), arrival)
        else:
            there = self._travel()
            self._carry(there, arrival)
            if self._chance.random() < line.doubled:
                self._carry(there + 3 * self._chance.random(), arrival)
            self._later(there + self._travel(), future, WireResponse(status=200, headers={}, body=b""))
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError as error:
            raise OutcomeUnknownError("no answer in time") from error

    def _later(
        self, seconds: float, future: asyncio.Future[WireResponse], result: WireResponse | Exception
    ) -> None:
        def answer() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()
            else:
                future.set_result(result)

        self._world.after(seconds, answer)

    def _carry(self, seconds: float, arrival: Arrival) -> None:
        self.on_the_way += 1
        self._world.after(seconds, self._take, arrival)

    def _take(self, arrival: Arrival) -> None:
        self.on_the_way -= 1
        taken = Arrival(self._loop.time(), arrival.key, arrival.conversation, arrival.text, arrival.sender)
        self.arrivals.append(taken)
        self._note("marketplace", "took", taken.key, taken.text, f"from {taken.sender}")


class Client:
    """The HTTP client of one process."""

    def __init__(self, host: Host, marketplace: Marketplace) -> None:
        self._host = host
        self._marketplace = marketplace

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse:
        """Send a request to the marketplace."""
        return await self._marketplace.send(self._host, request, timeout)


class Air:
    """Carries hints between all processes, or not. ``lost``: the chance of a hint to get lost on its way to one."""

    def __init__(self, loop: VirtualLoop, chance: Random) -> None:
        self._world = loop.world
        self._chance = chance
        self.lost = 0.0
        self.buses: dict[Host, Bus] = {}

    def carry(self, sender: Host, hints: dict[str, str]) -> None:
        """Bring hints to everybody else."""
        for host, bus in list(self.buses.items()):
            if host is not sender and self._chance.random() >= self.lost:
                self._world.after(0.0005 + 0.02 * self._chance.random() ** 3, self._arrive, host, bus, hints)

    def _arrive(self, host: Host, bus: Bus, hints: dict[str, str]) -> None:
        host.after(0.0, bus.hear, hints)

    def found_again(self) -> None:
        """After hints may have been lost everybody looks at everything, as after a new connection."""
        for host, bus in self.buses.items():
            host.after(0.0, bus.hear, dict.fromkeys(bus.heard, ""))


class Bus:
    """One process's end. Hints of one moment leave together."""

    def __init__(self, host: Host, air: Air) -> None:
        self._host = host
        self._air = air
        self._pending = PendingHints()
        self._is_leaving = False
        self.heard: dict[str, list[Heard]] = {}
        air.buses[host] = self

    def publish(self, topic: str, payload: str = "") -> None:
        """Hint at a change."""
        self._pending.add(topic, payload)
        if not self._is_leaving:
            self._is_leaving = True
            self._host.after(0.0005, self._leave)

    def _leave(self) -> None:
        self._is_leaving = False
        self._air.carry(self._host, self._pending.take())

    def subscribe(self, topic: str, heard: Heard) -> None:
        """Have ``heard`` called with every hint of a topic."""
        self.heard.setdefault(topic, []).append(heard)

    def hear(self, hints: dict[str, str]) -> None:
        """Pass hints on."""
        for topic, payload in hints.items():
            for heard in self.heard.get(topic, ()):
                heard(payload)

    async def start(self) -> None:
        """It is there from the start."""

    async def stop(self) -> None:
        """Hear nothing any more."""
        self._air.buses.pop(self._host, None)

    def carries(self) -> bool:
        """Whether hints get through, as far as one can see from here: single ones get lost without a sign."""
        return self._air.lost < 1.0

    def trouble(self) -> str | None:
        """Nobody asks."""
        return None
