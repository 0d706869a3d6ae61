"""What the HTTP API takes and gives, as models; the OpenAPI document is made of them.

Source: the contracts page, sections 3 and 4.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.api.frames import ContentModel, IdText, Strict

__all__ = [
    "AccountBody",
    "AccountOut",
    "AccountPatch",
    "AuditOut",
    "BuyerOut",
    "CleanText",
    "ConversationOut",
    "DeclineBody",
    "DeliveryOut",
    "EntryOut",
    "EscalationOut",
    "GroupOut",
    "GroupPatch",
    "MessageOut",
    "MessagePost",
    "NoticeOut",
    "OrderOut",
    "Page",
    "PublishBody",
    "RejectedOut",
    "ResolveBody",
    "RollbackBody",
    "SessionBody",
    "SessionOut",
    "SettingsOut",
    "ShopOut",
    "TransferBody",
    "UserBody",
    "UserOut",
    "UserPatch",
    "VersionOut",
]

Item = TypeVar("Item")
RoleName = Literal["admin", "supervisor", "agent"]


def _clean(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold a NUL character")
    return text


CleanText = Annotated[str, Field(max_length=500), AfterValidator(_clean)]


class Out(BaseModel):
    """An answer; documented fields may be joined by more."""

    model_config = ConfigDict(extra="allow")


class Page(BaseModel, Generic[Item]):
    """A part of a list; ``next`` is the cursor of the following part, null at the end."""

    items: list[Item]
    next: str | None = None


class SessionBody(Strict):
    """Signing in."""

    username: str
    password: str
    cookie: bool = False


class UserOut(Out):
    """A person."""

    id: str
    name: str
    display_name: str
    role: RoleName
    groups: list[str]
    shops: list[str]
    max_load: int
    disabled: bool


class SessionOut(Out):
    """Who is signed in; ``token`` once for scripts, ``csrf`` for pages."""

    user: UserOut | None
    token: str | None = None
    csrf: str | None = None
    expires_at: str | None = None


class UserBody(Strict):
    """A new person."""

    name: CleanText
    password: str
    role: RoleName
    groups: list[CleanText] = Field(default_factory=list)
    shops: list[CleanText] = Field(default_factory=list)
    max_load: int = 8
    display_name: CleanText | None = None


class UserPatch(Strict):
    """What to change of a person; what isn't given stays."""

    display_name: CleanText | None = None
    role: RoleName | None = None
    groups: list[CleanText] | None = None
    shops: list[CleanText] | None = None
    max_load: int | None = None
    disabled: bool | None = None
    password: str | None = None


class GroupOut(Out):
    """A group of agents; its id is its code."""

    id: str
    name: str
    leader_id: str | None
    user_tiers: list[str]
    sources: list[str]
    members: list[str]
    version: int


class GroupPatch(Strict):
    """A group's leader, by user id."""

    leader_id: IdText | None


class ShopOut(Out):
    """A shop."""

    id: str
    name: str
    version: int


class SettingsOut(Out):
    """A shop's settings as they were given; what isn't there has its default."""

    shop_id: str
    settings: dict[str, Any]
    version: int


class AccountOut(Out):
    """A shop's seat on one channel; secrets are never shown."""

    id: str
    channel: str
    shop_id: str
    state: str
    state_reason: str | None
    settings: dict[str, Any]
    webhook: str
    version: int


class AccountBody(Strict):
    """A new account; makes its shop if that is new. ``secret`` may be a list."""

    id: CleanText
    channel: CleanText
    shop_id: CleanText
    settings: dict[str, str | list[str]] = Field(default_factory=dict)


class AccountPatch(Strict):
    """Settings to change (an empty text removes one), or ``state``: ``active`` or ``paused``."""

    settings: dict[str, str | list[str]] | None = None
    state: Literal["active", "paused"] | None = None


class BuyerOut(Out):
    """The buyer of a conversation."""

    id: str
    external_id: str
    nickname: str | None
    tier: str | None
    tags: list[str]


class OrderOut(Out):
    """An order context: one shape whatever the marketplace; money as decimal strings."""

    order_id: str
    status: Literal["pending_payment", "paid", "preparing", "shipped", "delivered", "completed", "closed"]
    fetched_at: str


class MessageOut(Out):
    """A message or note."""

    id: str
    external_id: str | None
    conversation_id: str
    direction: Literal["in", "out", "note"]
    author: Literal["buyer", "bot", "agent", "system"]
    content: dict[str, Any]
    created_at: str
    sent_at: str | None
    status: str
    in_reply_to: str | None


class ConversationOut(Out):
    """A conversation."""

    id: str
    external_id: str
    account_id: str
    shop_id: str
    channel: str
    state: Literal["bot", "queued", "human", "closed"]
    stage: str
    group_id: str | None
    agent_id: str | None
    buyer: BuyerOut
    waiting_since: str | None
    unread: int
    priority: Literal["low", "normal", "high", "urgent"]
    last_message: dict[str, Any] | None
    updated_at: str


class MessagePost(Strict):
    """A reply, or with ``note`` an internal note. ``client_message_id`` defaults to the Idempotency-Key."""

    content: ContentModel
    client_message_id: Annotated[CleanText | None, Field(min_length=1, max_length=100)] = None
    last_seen_message_id: IdText | None = None
    confirm: bool = False
    note: bool = False


class EscalationOut(Out):
    """An escalation with what an agent needs to take over."""

    id: str
    state: Literal["open", "accepted", "withdrawn", "closed"]
    conversation: ConversationOut
    group_id: str
    reason: str
    priority: Literal["low", "normal", "high", "urgent"]
    major: bool
    waiting_since: str
    deadline: str
    offered_to: str | None
    accepted_by: str | None
    order: dict[str, Any] | None
    orders: list[dict[str, Any]]
    transcript: list[MessageOut]
    suggestions: list[dict[str, Any]]


class DeclineBody(Strict):
    """Why not."""

    reason: CleanText | None = None


class ResolveBody(Strict):
    """How it ended."""

    outcome: Annotated[CleanText, Field(min_length=1, max_length=100)]
    category: CleanText | None = None


class TransferBody(Strict):
    """To whom; exactly one of the two."""

    agent_id: IdText | None = None
    group_id: CleanText | None = None
    note: Annotated[str, Field(max_length=4000)] = ""


class EntryOut(Out):
    """A draft entry as in a file, with its version for If-Match."""

    id: str
    version: int
    updated_at: str
    document: dict[str, Any]
    warnings: list[str] = []


class VersionOut(Out):
    """A published version."""

    version: int
    entry_count: int
    note: str | None
    author: str
    created_at: str
    in_service: bool


class PublishBody(Strict):
    """What changed, in the author's words."""

    note: CleanText | None = None


class RollbackBody(Strict):
    """Which version to put in service; none: the one before."""

    version: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = None


class RejectedOut(Out):
    """A webhook that was taken but led to nothing, with its reason and the beginning of its body."""

    id: str
    account_id: str
    channel: str
    state: Literal["rejected", "ignored", "parked"]
    reason: str | None
    tries: int
    received_at: str
    body: str


class DeliveryOut(Out):
    """A message that could not be delivered."""

    id: str
    conversation_id: str
    account_id: str
    message_id: str
    author: str
    attempts: int
    error: str | None
    created_at: str
    content: dict[str, Any]


class AuditOut(Out):
    """Who did what."""

    id: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    at: str


class NoticeOut(Out):
    """What an admin should know."""

    id: str
    kind: str
    subject: str
    text: str
    created_at: str
    seen_at: str | None
