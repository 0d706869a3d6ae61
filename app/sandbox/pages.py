"""The page's JSON: what it is shown, and what it may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from app.core.errors import InvalidError
from app.sandbox.buyers import BUYERS, TIERS, Buyer
from app.sandbox.catalogue import Shop
from app.sandbox.chats import PageSession, Troubles
from app.sandbox.market import Market

__all__ = ["MAX_TEXT", "PageFrame", "Said", "read_said", "read_seat", "read_troubles", "world_wire"]

MAX_TEXT = 4000
"""Characters of one message; marketplaces allow fewer."""

_BUYERS: Mapping[str, Buyer] = {buyer.key: buyer for buyer in BUYERS}


class Said(TypedDict):
    """What a buyer says, checked."""

    account_id: str
    buyer: Buyer
    tier: str
    content: Mapping[str, Any]
    order_id: str | None
    product_id: str | None
    client_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFrame:
    """What surrounds the page: where agents work (None: no console yet), and how they can do without."""

    agents_url: str | None
    docs_url: str


def world_wire(market: Market, session: PageSession, frame: PageFrame) -> dict[str, Any]:
    """Return everything that the page needs to draw itself."""
    return {
        "session": session.id,
        "last_event": session.events.last,
        "shops": [_shop_wire(market, account_id, shop) for account_id, shop in market.shops.items()],
        "tiers": [{"key": key, "title": title} for key, title in TIERS.items()],
        "buyers": [{"key": buyer.key, "nickname": buyer.nickname, "tier": buyer.tier} for buyer in BUYERS],
        "troubles": session.troubles.to_wire(),
        "orders": {
            account_id: {buyer.key: list(market.orders(session, account_id, buyer)) for buyer in BUYERS}
            for account_id in market.shops
        },
        "chats": [
            {
                "account_id": chat.account_id,
                "buyer": chat.buyer_key,
                "messages": [message.to_wire() for message in chat.messages],
            }
            for chat in session.chats.values()
        ],
        "agents_url": frame.agents_url,
        "docs_url": frame.docs_url,
    }


def read_troubles(fields: Mapping[str, Any]) -> Troubles:
    """Read which mischief is on; what isn't named is off."""
    return Troubles(**{name: fields.get(name) is True for name in Troubles().to_wire()})


def read_said(market: Market, fields: Mapping[str, Any]) -> Said:
    """Read what a buyer says.

    Raises:
        InvalidError: no such shop or buyer, or nothing that can be said.
    """
    account_id, buyer = read_seat(market, fields)
    tier = fields.get("tier")
    return Said(
        account_id=account_id,
        buyer=buyer,
        tier=tier if isinstance(tier, str) and tier in TIERS else buyer.tier,
        content=_content(fields.get("content"), market.base_url),
        order_id=_optional(fields.get("order_id")),
        product_id=_optional(fields.get("product_id")),
        client_id=_optional(fields.get("client_id")),
    )


def _shop_wire(market: Market, account_id: str, shop: Shop) -> dict[str, Any]:
    return {
        "account_id": account_id,
        "name": shop.name,
        "open": market.is_open(account_id),
        "products": [
            {"id": product.id, "title": product.title, "price": f"{product.price:.2f}"}
            for product in shop.products
        ],
    }


def read_seat(market: Market, fields: Mapping[str, Any]) -> tuple[str, Buyer]:
    """Return which shop's account and which buyer a request is about. Raises InvalidError."""
    account_id, buyer = fields.get("account_id"), _BUYERS.get(str(fields.get("buyer")))
    if not isinstance(account_id, str) or account_id not in market.shops or buyer is None:
        raise InvalidError("there is no such shop or buyer", code="seat_unknown")
    return account_id, buyer


def _content(value: Any, base_url: str) -> Mapping[str, Any]:
    content = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    kind, text, url = content.get("type"), content.get("text"), content.get("url")
    if kind == "text" and isinstance(text, str) and text.strip() and len(text) <= MAX_TEXT:
        return {"type": "text", "text": text}
    if kind == "image" and isinstance(url, str) and url.startswith(f"{base_url}/sandbox/images/"):
        return {"type": "image", "url": url}
    raise InvalidError(f"say something of at most {MAX_TEXT} characters", code="content_invalid")


def _optional(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
