"""The last known orders of each buyer, in table ``order_cache``: what is shown when the order service is away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import orjson
from sqlalchemy import Connection, select

from app.domain.orders import Order
from app.orders.parsing import parse_orders
from app.storage.database import upsert
from app.storage.tables import order_cache

__all__ = ["Documents", "change_cached", "read_cached", "store_orders"]


Documents = list[Mapping[str, Any]]


def read_cached(connection: Connection, account_id: str, buyer_id: str) -> tuple[Documents, int] | None:
    """Return a buyer's order documents and when they were fetched (ms); None when nothing is known."""
    row = connection.execute(
        select(order_cache.c.document, order_cache.c.fetched_at_ms).where(
            order_cache.c.account_id == account_id, order_cache.c.buyer_external_id == buyer_id
        )
    ).one_or_none()
    return None if row is None else (cast("Documents", orjson.loads(row.document)), row.fetched_at_ms)


def store_orders(
    connection: Connection, account_id: str, buyer_id: str, orders: Iterable[Order], *, fetched_at_ms: int
) -> None:
    """Keep a buyer's orders as they are now, unless something newer is kept already."""
    statement = upsert(connection, order_cache).values(
        account_id=account_id,
        buyer_external_id=buyer_id,
        document=orjson.dumps([order.doc for order in orders]).decode(),
        fetched_at_ms=fetched_at_ms,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["account_id", "buyer_external_id"],
            set_={"document": statement.excluded.document, "fetched_at_ms": statement.excluded.fetched_at_ms},
            where=order_cache.c.fetched_at_ms <= fetched_at_ms,
        )
    )


def change_cached(
    connection: Connection,
    account_id: str,
    buyer_id: str,
    change: Callable[[Documents], Documents],
    *,
    now_ms: int,
) -> None:
    """Apply a change to a buyer's order documents, and keep what is an order afterwards."""
    known = read_cached(connection, account_id, buyer_id)
    documents = change([] if known is None else known[0])
    orders = parse_orders(documents, fetched_at_ms=now_ms, buyer_id=buyer_id)
    if orders or known is not None:
        store_orders(connection, account_id, buyer_id, orders, fetched_at_ms=now_ms)
