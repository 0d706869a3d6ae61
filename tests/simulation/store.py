"""The database as each process reaches it: travel times, outages, and transactions whose outcome nobody learns.

A transaction takes effect at one instant. Between its arrival and that instant others may arrive and take effect first,
so that the order of numbers (drawn at arrival) isn't that of commits. A *late* one takes effect after its client was
told that the line broke; what it touches is locked until then, and others that touch it wait, as on a real server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.core.errors import UnavailableError
from app.core.metrics import Metrics
from app.storage.lease_line import LIMIT_SECONDS
from app.storage.writer import ANSWER_SECONDS, BatchWriter
from tests.simulation.loop import START_MS, Host, VirtualLoop
from tests.simulation.rows import Rows

__all__ = ["Request", "Store", "StoreDatabase", "StoreLine", "Tell", "Weather"]

R = TypeVar("R")

COMMAND_SECONDS = 20.0
"""How long the program's connections wait for an answer."""

LOCK_SECONDS = {"read": 5.0, "write": 5.0, "lease": 1.0}
"""How long a transaction waits for another's rows: the settings of the program's connections."""

Tell = tuple[str, Any, Any, Any]
"""What a transaction did, as the triggers tell it: what, id, and two details."""


@dataclass(slots=True)
class Weather:
    """Chances of what may befall a request, and how long things take (seconds)."""

    quickest: float = 0.0005
    slowest: float = 0.01
    lost: float = 0.0
    unheard: float = 0.0
    late: float = 0.0
    collides: float = 0.0


@dataclass(slots=True, eq=False)
class Request:
    """One transaction on its way. ``number``: its place in the order of arrival, -1 before that."""

    host: Host
    kind: str
    function: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    number: int = -1
    keys: frozenset[object] = frozenset()
    shared: frozenset[object] = frozenset()
    waits_until: float = 0.0
    numbered: int = field(default=0)


class _CollisionError(Exception):
    sqlstate = "40001"


class Store:
    """One database server and the lines to it."""

    def __init__(
        self,
        loop: VirtualLoop,
        rows: Rows,
        chance: Random,
        *,
        on_commit: Callable[[Request, list[Tell]], None],
        note: Callable[..., None],
    ) -> None:
        """``on_commit`` hears of every transaction at the moment it takes effect."""
        self._loop = loop
        self._world = loop.world
        self.rows = rows
        self._chance = chance
        self._on_commit = on_commit
        self._note = note
        self.weather = Weather()
        self.away: dict[Host | None, str] = {}
        """Who can't reach it (None: nobody can), and how that looks: ``refuse`` or ``hang``."""
        self._hung: list[Request] = []
        self._late: list[Request] = []
        self._blocked: list[Request] = []
        self._arrivals = 0
        self._given: dict[str, int] = {}
        self._running: Request | None = None
        self._told: list[Tell] = []
        functions = rows.functions
        functions.database_ms = lambda: START_MS + round(loop.time() * 1000)
        functions.next_number = self._next_number
        functions.chance = chance.random
        functions.tell = lambda *what: self._told.append(what)

    async def ask(self, host: Host, kind: str, function: Callable[[Connection], R], seconds: float) -> R:
        """Run a function in a transaction; raise OSError or TimeoutError when the line breaks or stays silent."""
        future: asyncio.Future[R] = self._loop.create_future()
        request = Request(host, kind, function, future)
        self._world.after(self._travel(), self._arrive, request)
        async with asyncio.timeout(seconds):
            return await future

    def reachable(self) -> None:
        """Look again who can reach the database: what hung goes on, or its line has been cut for good."""
        hung, self._hung = self._hung, []
        for request in hung:
            if self._way(request.host) == "hang":
                self._hung.append(request)
            elif self._chance.random() < 0.5:
                self._arrive(request)
            else:
                self._fail(request, ConnectionResetError("cut"))

    # --- one request ---

    def _way(self, host: Host) -> str | None:
        return self.away.get(None) or self.away.get(host)

    def _travel(self) -> float:
        weather = self.weather
        # Mostly quick, sometimes slow: a square favours the quick end.
        return weather.quickest + (weather.slowest - weather.quickest) * self._chance.random() ** 3

    def _arrive(self, request: Request) -> None:
        way = self._way(request.host)
        if way == "hang":
            self._hung.append(request)
            return
        if way == "refuse":
            self._fail(request, ConnectionRefusedError("away"))
            return
        self._arrivals += 1
        request.number = self._arrivals
        fate, weather = self._chance.random(), self.weather
        if fate < weather.lost:
            self._trouble(request, "lost")
            self._fail(request, ConnectionResetError("cut before it arrived"))
        elif request.kind == "read":
            self._run(request)
        elif (fate := fate - weather.lost) < weather.unheard:
            self._trouble(request, "is committed, and nobody hears")
            self._fail(request, ConnectionResetError("cut before the answer"))
            self._run(request)
        elif (fate := fate - weather.unheard) < weather.collides and request.kind == "write":
            self._trouble(request, "collides")
            self._fail(request, DBAPIError("collision", None, _CollisionError()))
        elif (fate := fate - weather.collides) < weather.late and request.kind == "write":
            self._begin_late(request)
        else:
            self._world.after(self._travel(), self._run, request)

    def _trouble(self, request: Request, what: str) -> None:
        self._note(request.host.name, "store", request.kind, request.number, what)

    def _begin_late(self, request: Request) -> None:
        if self._is_blocked(request):
            return
        self._find_keys(request)
        seconds = 0.05 + 3 * self._chance.random() ** 2
        self._trouble(request, f"is cut off; it will commit in {seconds:.2f} s")
        self._fail(request, ConnectionResetError("cut during the commit"))
        self._late.append(request)
        self._world.after(seconds, self._end_late, request)

    def _end_late(self, request: Request) -> None:
        self._late.remove(request)
        self._trouble(request, "commits late")
        self._execute(request)
        blocked, self._blocked = self._blocked, []
        for waiting in blocked:
            self._run(waiting)

    def _run(self, request: Request) -> None:
        if request.kind == "read" or not self._is_blocked(request):
            self._execute(request)

    def _is_blocked(self, request: Request) -> bool:
        if not self._late:
            return False
        self._find_keys(request)
        if not any(_collide(request, late) for late in self._late):
            return False
        if request.waits_until == 0.0:
            request.waits_until = self._loop.time() + LOCK_SECONDS[request.kind]
        if self._loop.time() >= request.waits_until:
            self._trouble(request, "waited too long for a lock")
            self._fail(request, ConnectionResetError("lock timeout"))
            return True
        self._trouble(request, "waits for a lock")
        self._blocked.append(request)
        self._world.after(request.waits_until - self._loop.time(), self._stop_waiting, request)
        return True

    def _stop_waiting(self, request: Request) -> None:
        if request in self._blocked:
            self._blocked.remove(request)
            self._trouble(request, "waited too long for a lock")
            self._fail(request, ConnectionResetError("lock timeout"))

    def _find_keys(self, request: Request) -> None:
        """Find out what a transaction writes, and the partitions whose epochs it holds, by trying."""
        connection = self.rows.connection
        self._running, self._told = request, []
        given = dict(self._given)
        request.numbered = 0
        try:
            request.function(connection)
        except Exception:  # noqa: BLE001 - it will fail the same way when it is its turn
            self._told = []
        finally:
            connection.rollback()
            self._given = given
        keys: set[object] = set()
        shared: set[object] = set()
        for what, one, first, second in self._told:
            match what:
                case "stored":
                    keys.add(("dedupe", first))
                case "inbox" | "outbox":
                    keys.add((what, one))
                    shared.add(second)
                case "lease":
                    keys.add(one)
                case "conversation":
                    keys.add((what, one))
                case _:
                    pass
        request.keys, request.shared = frozenset(keys), frozenset(shared)

    def _execute(self, request: Request) -> None:
        connection = self.rows.connection
        self._running, self._told = request, []
        request.numbered = 0
        try:
            result = request.function(connection)
        except Exception as error:  # noqa: BLE001 - whoever asked gets to know
            connection.rollback()
            self._fail(request, error)
            return
        if request.kind == "read":
            connection.rollback()
        else:
            connection.commit()
            self._on_commit(request, self._told)
        self._world.after(self._travel(), self._answer, request.future, result)

    def _next_number(self, name: str) -> int:
        request = self._running
        assert request is not None
        if name == "inbox":
            # Drawn when the row is written, which may be long before others that commit first.
            request.numbered += 1
            return request.number * 1024 + request.numbered
        self._given[name] = self._given.get(name, 0) + 1
        return self._given[name]

    def _answer(self, future: asyncio.Future[Any], result: Any) -> None:
        if not future.done():
            future.set_result(result)

    def _fail(self, request: Request, error: Exception) -> None:
        def fail() -> None:
            if not request.future.done():
                request.future.set_exception(error)
                request.future.exception()

        self._world.after(self._travel(), fail)


def _collide(one: Request, other: Request) -> bool:
    # Those that only hold an epoch don't wait for each other; a change of hands waits for them all.
    return bool(one.keys & (other.keys | other.shared) or one.shared & other.keys)


class StoreDatabase:
    """Stands in for ``Database``: one process's reads, and its batch writer."""

    is_sqlite = False

    def __init__(self, store: Store, host: Host, *, metrics: Metrics) -> None:
        self._store = store
        self._host = host
        self.writer = BatchWriter(self._transaction, metrics=metrics, answer_seconds=ANSWER_SECONDS)

    async def read(self, function: Callable[[Connection], R]) -> R:
        """Run a function that only reads."""
        try:
            return await self._store.ask(self._host, "read", function, COMMAND_SECONDS)
        except (OSError, TimeoutError) as error:
            raise UnavailableError("the database did not answer; try again", retry_after=1) from error

    async def write(self, function: Callable[[Connection], R]) -> R:
        """Run a function that writes, in a batch's transaction."""
        return await self.writer.call(function)

    async def _transaction(self, function: Callable[[Connection], Any]) -> Any:
        return await self._store.ask(self._host, "write", function, COMMAND_SECONDS)


class StoreLine:
    """Stands in for ``LeaseLine``: one request at a time, with a time limit of its own."""

    def __init__(self, store: Store, host: Host) -> None:
        self._store = store
        self._host = host
        self._lock = asyncio.Lock()

    async def run(self, function: Callable[[Connection], R]) -> R:
        """Run a function whose statements each commit by themselves (here: its one statement)."""
        async with self._lock:
            try:
                return await self._store.ask(self._host, "lease", function, LIMIT_SECONDS)
            except (OSError, TimeoutError) as error:
                raise UnavailableError("the database did not answer in time", retry_after=1) from error

    async def close(self) -> None:
        """There is nothing to let go of."""
