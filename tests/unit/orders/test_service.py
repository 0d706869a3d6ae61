"""Looking up orders: whose they are, how often the service is asked, and what is said while it is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson
import pytest

from app.channels.http import PeerUnavailableError
from app.channels.registry import Registry
from app.core.errors import ChannelError
from app.core.metrics import Metrics
from app.domain.delivery import Account, WireRequest, WireResponse
from app.domain.messages import EventKind
from app.domain.orders import OrderLookup
from app.domain.turns import NeedOrders
from app.orders.service import FRESH_SECONDS, OrderService
from app.storage.database import Database
from app.storage.tables import metadata
from tests.fakes import FakeClock

ACCOUNT = Account(
    id="a-1",
    channel="generic",
    shop_id="s-1",
    secrets=(),
    settings={"orders_url": "https://shop.example.com/orders"},
)
WITHOUT = Account(id="a-2", channel="generic", shop_id="s-1", secrets=(), settings={})


def order(order_id: str, buyer_id: str | None = "b-1", **changes: Any) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "buyer_id": buyer_id,
        "status": "paid",
        "created_at": "2026-11-20T00:00:00Z",
        "receiver": {"name": "陈小明", "phone": "13912341111", "address": "浙江省杭州市西湖区1号"},
    } | changes


class OrderShop:
    """An order service; ``strict`` hides other buyers' orders, as the contract asks."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.is_away = False
        self.strict = True
        self.requests: list[str] = []
        self.gate: asyncio.Event | None = None

    async def send(self, request: WireRequest, *, timeout: float) -> WireResponse:
        self.requests.append(request.url)
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise PeerUnavailableError("away")
        assert 0 < timeout <= 1.5
        parts = urlsplit(request.url)
        buyer = parse_qs(parts.query)["buyer_id"][0]
        own = [one for one in self.orders if one.get("buyer_id") == buyer or not self.strict]
        if parts.path == "/orders":
            return self.answer(200, {"items": [one for one in own if not one.get("unlisted")]})
        order_id = unquote(parts.path.removeprefix("/orders/"))
        found = next((one for one in own if one["order_id"] == order_id), None)
        return self.answer(404, {}) if found is None else self.answer(200, found)

    def answer(self, status: int, document: Any) -> WireResponse:
        return WireResponse(status=status, headers={}, body=orjson.dumps(document))


@pytest.fixture
def shop() -> OrderShop:
    return OrderShop()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'huoji.db'}", metrics=Metrics())
    await opened.open()
    await opened.write(metadata.create_all)
    yield opened
    await opened.close()


@pytest.fixture
async def service(database: Database, shop: OrderShop, clock: FakeClock) -> AsyncIterator[OrderService]:
    made = OrderService(database, shop, Registry(), clock)
    yield made
    await made.close()


async def test_a_buyers_orders_are_found_newest_first(service: OrderService, shop: OrderShop):
    shop.orders = [order("O-1"), order("O-2", created_at="2026-11-21T00:00:00Z"), order("O-3", "b-2")]
    view = await service.look_up(ACCOUNT, "b-1", need=NeedOrders())
    assert view.lookup is OrderLookup.FOUND
    assert [one.order_id for one in view.orders] == ["O-2", "O-1"]
    assert view.orders[0].stale is False
    assert view.orders[0].doc["receiver"]["phone"] == "139****1111"


async def test_a_buyer_without_orders_has_none(service: OrderService):
    assert (await service.look_up(ACCOUNT, "b-1", need=NeedOrders())).lookup is OrderLookup.NONE


async def test_an_account_without_order_service_supports_none(service: OrderService, shop: OrderShop):
    for need in (NeedOrders(), NeedOrders(order_id="O-1", trusted=True)):
        view = await service.look_up(WITHOUT, "b-1", need=need)
        assert (view.lookup, view.orders, view.asked) == (OrderLookup.UNSUPPORTED, (), None)
    assert shop.requests == []


async def test_an_account_without_order_service_knows_what_events_told(service: OrderService):
    payload = {"buyer": {"id": "b-1"}, "order": order("O-1", buyer_id=None)}
    await service.apply_event("a-2", EventKind.ORDER, payload)
    view = await service.look_up(WITHOUT, "b-1", need=NeedOrders(order_id="O-1"))
    assert view.lookup is OrderLookup.FOUND
    assert view.asked is not None
    assert view.asked.stale is False


async def test_everybody_who_asks_at_once_shares_one_request(
    service: OrderService, shop: OrderShop, clock: FakeClock
):
    shop.orders = [order("O-1")]
    shop.gate = asyncio.Event()
    asking = [asyncio.create_task(service.look_up(ACCOUNT, "b-1", need=NeedOrders())) for _ in range(20)]
    await clock.run_for(0)
    asking[0].cancel()
    shop.gate.set()
    views = await asyncio.gather(*asking[1:])
    assert {view.lookup for view in views} == {OrderLookup.FOUND}
    assert len(shop.requests) == 1


async def test_a_list_is_good_for_a_while_and_then_read_again(
    service: OrderService, shop: OrderShop, clock: FakeClock
):
    for number in (1, 1, 2):
        await service.look_up(ACCOUNT, "b-1", need=NeedOrders())
        assert len(shop.requests) == number or number == 1
        clock.advance(FRESH_SECONDS / 2 + 1)
    assert len(shop.requests) == 2


async def test_an_order_in_the_own_list_is_named_without_another_request(
    service: OrderService, shop: OrderShop
):
    shop.orders = [order("O-1"), order("O-2")]
    view = await service.look_up(ACCOUNT, "b-1", need=NeedOrders(order_id="O-2"))
    assert view.asked is not None
    assert (view.lookup, view.asked.order_id, view.asked_id, view.attached) == (
        OrderLookup.FOUND,
        "O-2",
        "O-2",
        None,
    )
    assert len(shop.requests) == 1


async def test_an_older_order_of_the_buyer_is_found_by_its_typed_number(
    service: OrderService, shop: OrderShop
):
    shop.orders = [order("O-1"), order("OLD-9", unlisted=True)]
    view = await service.look_up(ACCOUNT, "b-1", need=NeedOrders(order_id="OLD-9"))
    assert view.asked is not None
    assert (view.lookup, view.asked.order_id) == (OrderLookup.FOUND, "OLD-9")
    assert [one.order_id for one in view.orders] == ["O-1"]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("stranger", ["b-2", None])
async def test_a_typed_number_of_somebody_else_is_not_found(
    service: OrderService, shop: OrderShop, strict: bool, stranger: str | None
):
    shop.orders = [order("O-1"), order("O-7", stranger, unlisted=True)]
    shop.strict = strict
    view = await service.look_up(ACCOUNT, "b-1", need=NeedOrders(order_id="O-7"))
    assert (view.lookup, view.asked, view.asked_id) == (OrderLookup.NOT_FOUND, None, "O-7")
    assert [one.order_id for one in view.orders] == ["O-1"]


async def test_an_order_that_the_marketplace_attached_is_trusted(service: OrderService, shop: OrderShop):
    shop.orders = [order("O-7", "b-1-sub", unlisted=True)]
    shop.strict = False
    view = await service.look_up(ACCOUNT, "b-1", need=NeedOrders(order_id="O-7", trusted=True))
    assert view.attached is not None
    assert (view.lookup, view.attached.order_id) == (OrderLookup.FOUND, "O-7")


async def test_while_the_service_is_away_the_last_known_orders_are_shown_as_stale(
    service: OrderService, shop: OrderShop, clock: FakeClock
):
    shop.orders = [order("O-1")]
    await service.look_up(ACCOUNT, "b-1", need=NeedOrders())
    await service.close()
    read_at = clock.now_ms()
    shop.is_away = True
    clock.advance(3600)
    view = await service.look_up(ACCOUNT, "b-1", need=NeedOrders())
    (one,) = view.orders
    assert (view.lookup, one.stale, one.doc["stale"], one.fetched_at_ms) == (
        OrderLookup.FOUND,
        True,
        True,
        read_at,
    )
    shop.is_away = False
    clock.advance(2)
    (one,) = (await service.look_up(ACCOUNT, "b-1", need=NeedOrders())).orders
    assert one.stale is False


async def test_a_service_that_is_away_with_nothing_known_is_unavailable(
    service: OrderService, shop: OrderShop
):
    shop.is_away = True
    for need in (NeedOrders(), NeedOrders(order_id="O-1"), NeedOrders(order_id="O-1", trusted=True)):
        view = await service.look_up(ACCOUNT, "b-1", need=need)
        assert (view.lookup, view.orders, view.asked) == (OrderLookup.UNAVAILABLE, (), None)


async def test_an_event_is_known_at_once_and_survives_the_service(
    service: OrderService, shop: OrderShop, clock: FakeClock
):
    shop.orders = [order("O-1"), order("O-2")]
    await service.look_up(ACCOUNT, "b-1", need=NeedOrders())
    await service.close()
    clock.advance(1)
    await service.apply_event(
        "a-1", EventKind.ORDER, {"buyer": {"id": "b-1"}, "order": {"order_id": "O-1", "status": "shipped"}}
    )
    refund = {"refund_id": "R-1", "kind": "refund_only", "status": "approved", "amount": 9.9}
    await service.apply_event(
        "a-1", EventKind.REFUND, {"buyer": {"id": "b-1"}, "order_id": "O-2", "refund": refund}
    )
    shop.is_away = True
    view = await service.look_up(ACCOUNT, "b-1", need=NeedOrders())
    by_id = {one.order_id: one for one in view.orders}
    assert (by_id["O-1"].status.value, by_id["O-1"].doc["receiver"]["name"]) == ("shipped", "陈*")
    assert by_id["O-2"].doc["refunds"][0]["amount"] == "9.90"


async def test_an_event_that_overtakes_a_running_request_is_not_undone_by_it(
    service: OrderService, shop: OrderShop, clock: FakeClock
):
    shop.orders = [order("O-1")]
    shop.gate = asyncio.Event()
    asking = asyncio.create_task(service.look_up(ACCOUNT, "b-1", need=NeedOrders()))
    await clock.run_for(0.01)
    await service.apply_event(
        "a-1", EventKind.ORDER, {"buyer": {"id": "b-1"}, "order": order("O-1", status="shipped")}
    )
    shop.gate.set()
    await asking
    await service.close()
    shop.orders = [order("O-1", status="shipped")]
    (one,) = (await service.look_up(ACCOUNT, "b-1", need=NeedOrders())).orders
    assert one.status.value == "shipped"


async def test_an_agent_may_ask_for_the_receiver_of_this_buyer_only(service: OrderService, shop: OrderShop):
    shop.orders = [order("O-1"), order("O-2", "b-2")]
    shop.strict = False
    assert await service.read_receiver(ACCOUNT, "b-1", "O-1") == order("O-1")["receiver"]
    assert await service.read_receiver(ACCOUNT, "b-1", "O-2") is None
    assert await service.read_receiver(WITHOUT, "b-1", "O-1") is None
    shop.is_away = True
    with pytest.raises(ChannelError):
        await service.read_receiver(ACCOUNT, "b-1", "O-1")
