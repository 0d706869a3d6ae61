"""The orders that a visitor finds, and who may read them."""

from __future__ import annotations

import pytest

from app.domain.orders import Order, OrderStatus
from app.orders.parsing import parse_orders
from app.sandbox.buyers import BUYERS
from app.sandbox.sessions import buyer_id
from tests.unit.sandbox.conftest import OUTDOOR, World

HOUR_MS = 3_600_000


def all_orders(world: World) -> list[Order]:
    now_ms = world.clock.now_ms()
    return [
        order
        for account_id in world.market.shops
        for buyer in BUYERS
        for order in parse_orders(
            world.market.orders(world.session, account_id, buyer),
            fetched_at_ms=now_ms,
            buyer_id=buyer_id(buyer, world.session),
        )
    ]


def ask(
    world: World, *, order_id: str | None = None, buyer_name: str | None = None, token: str | None = None
):
    account = world.accounts[OUTDOOR]
    return world.market.answer_orders(
        OUTDOOR,
        authorization=f"Bearer {account.settings['orders_token'] if token is None else token}",
        buyer_name=buyer_id(world.buyer, world.session) if buyer_name is None else buyer_name,
        order_id=order_id,
    )


def test_there_are_orders_in_every_status(world: World):
    assert {order.status for order in all_orders(world)} == set(OrderStatus)


def test_parcels_are_on_their_way_with_fresh_traces_and_with_a_stale_one(world: World):
    now_ms = world.clock.now_ms()
    ages = [
        now_ms - (order.trace_at_ms or 0)
        for order in all_orders(world)
        if order.status is OrderStatus.SHIPPED
    ]
    assert any(age < 48 * HOUR_MS for age in ages)
    assert any(age > 48 * HOUR_MS for age in ages)


def test_one_paid_order_is_overdue_and_another_is_not(world: World):
    now_ms = world.clock.now_ms()
    paid = [order for order in all_orders(world) if order.status is OrderStatus.PAID]
    assert {order.is_overdue(now_ms) for order in paid} == {True, False}


def test_refunds_are_approved_processing_and_rejected(world: World):
    refunds = {refund["status"] for order in all_orders(world) for refund in order.doc["refunds"]}
    assert refunds == {"approved", "processing", "rejected"}


def test_a_buyer_s_orders_come_newest_first(world: World):
    created = [order["created_at"] for order in ask(world).document["items"]]
    assert created == sorted(created, reverse=True)
    assert len(created) > 5


def test_an_order_is_found_by_its_own_buyer_only(world: World):
    order_id = ask(world).document["items"][0]["order_id"]
    assert ask(world, order_id=order_id).document["order_id"] == order_id
    stranger = buyer_id(BUYERS[1], world.session)
    assert ask(world, order_id=order_id, buyer_name=stranger).status == 404
    assert ask(world, order_id="1").status == 404


@pytest.mark.parametrize("token", ["", "wrong", "令牌"])
def test_without_the_account_s_token_nothing_is_told(world: World, token: str):
    assert ask(world, token=token).status == 401


async def test_a_new_order_is_unpaid_comes_first_and_is_reported(world: World):
    order = world.market.place_order(world.session, OUTDOOR, world.buyer)
    assert order["status"] == "pending_payment"
    assert ask(world).document["items"][0]["order_id"] == order["order_id"]
    await world.clock.run_for(0)
    (reported,) = world.recorder.bodies("order.updated")
    assert reported["order"]["order_id"] == order["order_id"]


async def test_two_visitors_have_buyers_of_their_own(world: World):
    other = world.market.sessions.begin()
    world.market.place_order(other, OUTDOOR, world.buyer)
    mine = world.market.orders(world.session, OUTDOOR, world.buyer)
    assert len(world.market.orders(other, OUTDOOR, world.buyer)) == len(mine) + 1
