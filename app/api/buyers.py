"""Buyers as the conversations one may see show them, and their orders as last known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter
from sqlalchemy import Connection, select

from app.api.context import Caller, Cursor, Limit, Services, as_id, cut_page, need, read_cursor
from app.api.schemas import BuyerOut, OrderOut, Page
from app.core.clock import rfc3339
from app.core.errors import NotFoundError
from app.desk.auth import Principal
from app.desk.permissions import Permission
from app.desk.scope import visible_conversations
from app.desk.wire import mask_order
from app.orders.cache import read_cached
from app.storage.tables import buyers, conversations

__all__ = ["router"]

router = APIRouter(tags=["buyers"], dependencies=[need(Permission.WORK)])


@router.get("/buyers", response_model=Page[BuyerOut], operation_id="listBuyers")
async def list_buyers(
    principal: Caller, api: Services, limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """The buyers of the conversations one may see, the newest first."""
    before = read_cursor(cursor, 1)
    query = select(buyers).where(buyers.c.id.in_(_visible(principal)))
    if before is not None:
        query = query.where(buyers.c.id < before[0])
    query = query.order_by(buyers.c.id.desc()).limit(limit + 1)
    rows = await api.database.read(lambda connection: connection.execute(query).mappings().all())
    return cut_page(rows, limit, lambda row: [row["id"]], _buyer)


@router.get("/buyers/{buyer_id}", response_model=BuyerOut, operation_id="getBuyer")
async def get_buyer(buyer_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """One buyer."""
    number = as_id(buyer_id)
    return await api.database.read(lambda connection: _buyer(_find(connection, principal, number)))


@router.get("/buyers/{buyer_id}/orders", response_model=Page[OrderOut], operation_id="listBuyerOrders")
async def list_orders(buyer_id: str, principal: Caller, api: Services) -> dict[str, Any]:
    """A buyer's orders as last known, newest first, the receiver masked; `fetched_at` says how old they are."""
    number = as_id(buyer_id)

    def look(connection: Connection) -> dict[str, Any]:
        buyer = _find(connection, principal, number)
        known = read_cached(connection, buyer["account_id"], buyer["external_id"])
        documents, fetched_at_ms = known or ([], 0)
        items = [{**(mask_order(one) or {}), "fetched_at": rfc3339(fetched_at_ms)} for one in documents]
        return {"items": items, "next": None}

    return await api.database.read(look)


def _visible(principal: Principal) -> Any:
    return select(conversations.c.buyer_id).where(visible_conversations(principal.scope()))


def _find(connection: Connection, principal: Principal, buyer_id: int) -> Mapping[Any, Any]:
    query = select(buyers).where(buyers.c.id == buyer_id, buyers.c.id.in_(_visible(principal)))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFoundError("there is no such buyer")
    return row


def _buyer(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "account_id": row["account_id"],
        "external_id": row["external_id"],
        "nickname": row["nickname"],
        "tier": row["tier"],
        "tags": orjson.loads(row["tags"]),
    }
