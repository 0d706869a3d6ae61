"""Every visitor's own corner of the marketplace: page sessions, and which chat and which orders belong to whom."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from app.core.clock import Clock
from app.core.errors import NotFoundError
from app.core.ids import Ids
from app.sandbox.buyers import BUYERS, Buyer
from app.sandbox.catalogue import Shop
from app.sandbox.chats import Chat, PageSession
from app.sandbox.orders import Document, make_orders

__all__ = ["MAX_SESSIONS", "Sessions", "buyer_id"]

MAX_SESSIONS = 100
"""Page sessions kept; the one used longest ago goes first."""


class Sessions:
    """Page sessions in memory. Buyers carry the session in their id, so that visitors don't meet."""

    def __init__(self, shops: Mapping[str, Shop], *, clock: Clock, ids: Ids) -> None:
        """``shops`` by account id."""
        self._shops = shops
        self._clock = clock
        self._ids = ids
        self._sessions: OrderedDict[str, PageSession] = OrderedDict()
        self._orders: dict[tuple[str, str], list[Document]] = {}
        self._chats: dict[str, tuple[PageSession, Chat]] = {}

    def begin(self, *, instead_of: str | None = None) -> PageSession:
        """Open a session with fresh buyers, orders and no chats; ``instead_of`` names one to forget."""
        if instead_of is not None and instead_of in self._sessions:
            self._forget(instead_of)
        while len(self._sessions) >= MAX_SESSIONS:
            self._forget(next(iter(self._sessions)))
        session = PageSession(id=self._ids.token(18), tag=self._ids.token(6), begun_ms=self._clock.now_ms())
        self._sessions[session.id] = session
        for account_id, shop in self._shops.items():
            for buyer in BUYERS:
                name = buyer_id(buyer, session)
                self._orders[account_id, name] = make_orders(
                    shop, buyer, buyer_id=name, now_ms=session.begun_ms
                )
        return session

    def get(self, session_id: str) -> PageSession:
        """Return a session.

        Raises:
            NotFoundError: there is none (any more): the page has to begin anew.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise NotFoundError("this page's session is over; begin anew", code="sandbox_session_unknown")
        self._sessions.move_to_end(session_id)
        return session

    def orders(self, account_id: str, buyer_name: str) -> list[Document]:
        """Return a buyer's orders at a shop, newest first; the list itself, to be changed in place."""
        return self._orders.get((account_id, buyer_name), [])

    def chat(self, session: PageSession, account_id: str, buyer: Buyer) -> Chat:
        """Return the chat of a session's buyer with a shop, made when it is new."""
        chat = session.chats.get((account_id, buyer.key))
        if chat is None:
            number = session.next_number()
            chat = Chat(id=f"c-{session.tag}-{number}", account_id=account_id, buyer_key=buyer.key)
            session.chats[account_id, buyer.key] = chat
            self._chats[chat.id] = (session, chat)
        return chat

    def find_chat(self, account_id: str, chat_id: str) -> tuple[PageSession, Chat] | None:
        """Return a chat by the platform's id, with its session; None when no page plays it."""
        found = self._chats.get(chat_id)
        return found if found is not None and found[1].account_id == account_id else None

    def close_streams(self) -> None:
        """Tell every page that listens to go."""
        for session in self._sessions.values():
            session.events.close()

    def _forget(self, session_id: str) -> None:
        session = self._sessions.pop(session_id)
        session.events.close()
        for chat in session.chats.values():
            self._chats.pop(chat.id, None)
        for account_id in self._shops:
            for buyer in BUYERS:
                self._orders.pop((account_id, buyer_id(buyer, session)), None)


def buyer_id(buyer: Buyer, session: PageSession) -> str:
    """Return a session's buyer as the platform names them."""
    return f"{buyer.key}-{session.tag}"
