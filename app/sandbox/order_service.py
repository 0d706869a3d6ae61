"""The order service that the marketplace offers to shops' servers.

Source: the contracts page, section 2, "Orders".
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.delivery import Account
from app.sandbox.orders import Document
from app.sandbox.sessions import Sessions

__all__ = ["MAX_ORDERS", "Answer", "answer_orders", "find_order", "refusal"]

MAX_ORDERS = 20
"""Orders in one answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the marketplace answers to a request: status, JSON document, and headers."""

    status: int
    document: Mapping[str, Any]
    headers: Mapping[str, str] | None = None


def refusal(status: int, code: str) -> Answer:
    """Return an answer that says no, with a code that says why."""
    return Answer(status, {"code": code})


def find_order(sessions: Sessions, account_id: str, buyer_name: str, order_id: str) -> Document | None:
    """Return an order of the buyer whom the platform calls ``buyer_name``; None when they have no such order."""
    orders = sessions.orders(account_id, buyer_name)
    return next((order for order in orders if order["order_id"] == order_id), None)


def answer_orders(
    sessions: Sessions, account: Account, *, authorization: str, buyer_name: str, order_id: str | None
) -> Answer:
    """Answer a query of an account's server: one order (``order_id``), or a buyer's latest ones."""
    token = account.settings.get("orders_token", "")
    expected = f"Bearer {token}".encode()
    if not token or not hmac.compare_digest(authorization.encode("utf-8", "replace"), expected):
        return refusal(401, "token_invalid")
    if not buyer_name:
        return refusal(400, "buyer_id_missing")
    if order_id is None:
        return Answer(200, {"items": sessions.orders(account.id, buyer_name)[:MAX_ORDERS]})
    order = find_order(sessions, account.id, buyer_name, order_id)
    return refusal(404, "order_unknown") if order is None else Answer(200, order)
