"""Looking up the orders of a turn, within a time limit, once for everybody who asks at the same moment."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import structlog

from app.channels.http import Sender
from app.channels.registry import Registry
from app.core.clock import Clock
from app.core.errors import ChannelError, UnavailableError
from app.domain.delivery import Account
from app.domain.messages import EventKind
from app.domain.orders import Order, OrderLookup, OrderView
from app.domain.turns import NeedOrders
from app.orders.cache import Documents, change_cached, read_cached, store_orders
from app.orders.parsing import merge_order, merge_refund, parse_order, parse_orders
from app.storage.database import Database

__all__ = ["OrderService"]

log = structlog.get_logger(__name__)

FRESH_SECONDS = 15.0
"""How long a buyer's list is good without asking again: a burst's turns share one request."""

FAILURE_SECONDS = 1.0
"""How long a failed request isn't repeated, so that a burst waits for a dead service once."""

_MOST_REMEMBERED = 5000

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Known:
    """A buyer's orders as last read; ``orders`` None when neither the service nor the cache had any."""

    orders: tuple[Order, ...] | None
    good_until: float


class OrderService:
    """Order context for turns and agents."""

    def __init__(
        self,
        database: Database,
        client: Sender,
        registry: Registry,
        clock: Clock,
        *,
        timeout: float = 1.5,
        fresh_seconds: float = FRESH_SECONDS,
    ) -> None:
        """``timeout``: seconds that one look-up may wait for order services in all."""
        self._database = database
        self._client = client
        self._registry = registry
        self._clock = clock
        self._timeout = timeout
        self._fresh_seconds = fresh_seconds
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._running: dict[_Key, asyncio.Task[_Known]] = {}
        self._storing: set[asyncio.Task[None]] = set()

    async def look_up(self, account: Account, buyer_id: str, *, need: NeedOrders) -> OrderView:
        """Return a buyer's orders, newest first, and the one that was named. Never raises for a failing service.

        Where it fails, the orders last known are returned, marked stale; UNAVAILABLE when there are none.
        """
        deadline = self._clock.monotonic() + self._timeout
        has_service = self._registry.for_account(account).orders_request(account, buyer_id) is not None
        orders = (await self._list(account, buyer_id, has_service=has_service)).orders
        if need.order_id is None:
            return OrderView(lookup=_outcome(orders, has_service=has_service), orders=orders or ())
        named = next((order for order in orders or () if order.order_id == need.order_id), None)
        lookup = OrderLookup.FOUND
        if named is None:
            lookup, named = await self._named(account, buyer_id, need, deadline, has_service=has_service)
        return OrderView(
            lookup=lookup,
            orders=orders or (),
            attached=named if need.trusted else None,
            asked_id=need.order_id,
            asked=named,
        )

    async def apply_event(self, account_id: str, kind: EventKind, payload: Mapping[str, Any]) -> None:
        """Take in an ``order.updated`` or a ``refund.updated``: the next look-up knows it.

        Raises:
            UnavailableError: the database didn't take it.
        """
        buyer_id = _text_of(_object(payload.get("buyer")).get("id"))
        now_ms = self._clock.now_ms()

        def change(documents: Documents) -> Documents:
            if kind is EventKind.ORDER:
                return merge_order(documents, _object(payload.get("order")))
            order_id = _text_of(payload.get("order_id"))
            return merge_refund(documents, order_id, _object(payload.get("refund")))

        await self._database.write(
            lambda connection: change_cached(connection, account_id, buyer_id, change, now_ms=now_ms)
        )
        self.forget(account_id, buyer_id)

    def forget(self, account_id: str, buyer_id: str) -> None:
        """Ask the service again at the next look-up."""
        self._known.pop((account_id, buyer_id), None)
        # Whoever is being answered now gets the old state; it must not be kept.
        self._running.pop((account_id, buyer_id), None)

    async def read_receiver(self, account: Account, buyer_id: str, order_id: str) -> Mapping[str, Any] | None:
        """Return the unmasked ``{name, phone, address}`` of an order, for an agent who asked; never stored.

        Raises:
            ChannelError: the order service failed.
        """
        adapter = self._registry.for_account(account)
        request = adapter.order_request(account, order_id, buyer_id)
        if request is None:
            return None
        document = adapter.read_order(await self._client.send(request, timeout=self._timeout))
        if document is None or _text_of(document.get("buyer_id")) not in ("", buyer_id):
            return None
        receiver = _object(document.get("receiver"))
        return {name: _text_of(receiver.get(name)) for name in ("name", "phone", "address")}

    async def close(self) -> None:
        """Wait until what was read is stored."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await asyncio.gather(*self._storing, return_exceptions=True)

    async def _list(self, account: Account, buyer_id: str, *, has_service: bool) -> _Known:
        key = (account.id, buyer_id)
        known = self._known.get(key)
        if known is not None and known.good_until > self._clock.monotonic():
            self._known.move_to_end(key)
            return known
        task = self._running.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(
                self._read(account, buyer_id, has_service=has_service)
            )
            self._running[key] = task
            task.add_done_callback(lambda done: self._remember(key, done))
        # Shielded: the others go on waiting when one of them is cancelled.
        return await asyncio.shield(task)

    def _remember(self, key: _Key, task: asyncio.Task[_Known]) -> None:
        if self._running.get(key) is not task:
            return
        del self._running[key]
        if task.cancelled() or task.exception() is not None:
            return
        self._known[key] = task.result()
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)

    async def _read(self, account: Account, buyer_id: str, *, has_service: bool) -> _Known:
        if not has_service:
            return await self._read_cache(account, buyer_id, stale=False)
        now_ms = self._clock.now_ms()
        try:
            orders = await self._fetch(account, buyer_id, now_ms)
        except ChannelError as error:
            log.warning("orders.failed", account=account.id, code=error.code, reason=error.message)
            return await self._read_cache(account, buyer_id, stale=True)
        self._store_later(account, buyer_id, orders, now_ms)
        return _Known(orders, self._clock.monotonic() + self._fresh_seconds)

    async def _fetch(self, account: Account, buyer_id: str, now_ms: int) -> tuple[Order, ...]:
        adapter = self._registry.for_account(account)
        request = adapter.orders_request(account, buyer_id)
        assert request is not None
        documents = adapter.read_orders(await self._client.send(request, timeout=self._timeout))
        return parse_orders(documents, fetched_at_ms=now_ms, buyer_id=buyer_id, platform=account.channel)

    async def _read_cache(self, account: Account, buyer_id: str, *, stale: bool) -> _Known:
        good_until = self._clock.monotonic() + FAILURE_SECONDS
        try:
            found = await self._database.read(
                lambda connection: read_cached(connection, account.id, buyer_id)
            )
        except UnavailableError:
            found = None
        if found is None:
            return _Known(None, good_until)
        documents, fetched_at_ms = found
        orders = parse_orders(documents, fetched_at_ms=fetched_at_ms, buyer_id=buyer_id, stale=stale)
        return _Known(orders, good_until)

    async def _named(
        self, account: Account, buyer_id: str, need: NeedOrders, deadline: float, *, has_service: bool
    ) -> tuple[OrderLookup, Order | None]:
        """Look up one order that isn't in the list; one that the buyer typed has to name them as its buyer."""
        adapter = self._registry.for_account(account)
        request = adapter.order_request(account, need.order_id or "", buyer_id)
        if request is None:
            return (OrderLookup.NOT_FOUND if has_service else OrderLookup.UNSUPPORTED), None
        remaining = deadline - self._clock.monotonic()
        if remaining <= 0:
            return OrderLookup.UNAVAILABLE, None
        try:
            document = adapter.read_order(await self._client.send(request, timeout=remaining))
        except ChannelError as error:
            log.warning("orders.failed", account=account.id, code=error.code, reason=error.message)
            return OrderLookup.UNAVAILABLE, None
        if document is None:
            return OrderLookup.NOT_FOUND, None
        order = parse_order(document, fetched_at_ms=self._clock.now_ms(), platform=account.channel)
        if order is None or order.order_id != need.order_id:
            return OrderLookup.NOT_FOUND, None
        if not need.trusted and order.buyer_id != buyer_id:
            return OrderLookup.NOT_FOUND, None
        return OrderLookup.FOUND, order

    def _store_later(self, account: Account, buyer_id: str, orders: tuple[Order, ...], now_ms: int) -> None:
        """Keep the orders for the day the service is away; nobody waits for that."""
        task = asyncio.get_running_loop().create_task(self._store(account, buyer_id, orders, now_ms))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def _store(self, account: Account, buyer_id: str, orders: tuple[Order, ...], now_ms: int) -> None:
        try:
            await self._database.write(
                lambda connection: store_orders(
                    connection, account.id, buyer_id, orders, fetched_at_ms=now_ms
                )
            )
        except UnavailableError as error:
            log.warning("orders.not_cached", account=account.id, reason=error.message)


def _outcome(orders: tuple[Order, ...] | None, *, has_service: bool) -> OrderLookup:
    if orders:
        return OrderLookup.FOUND
    if not has_service:
        return OrderLookup.UNSUPPORTED
    return OrderLookup.UNAVAILABLE if orders is None else OrderLookup.NONE


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) else ""
