"""What the server sends to agents by itself, as models: documentation, and what a test holds real events against."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.api.schemas import ConversationOut, MessageOut

__all__ = ["EVENT_DATA", "HelloAnswer"]

PriorityName = Literal["low", "normal", "high", "urgent"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SuggestionOut(_Data):
    """An answer that a human may send; score 0–1."""

    entry_id: str
    title: str
    text: str
    score: float


class Offered(_Data):
    """An escalation is offered to this agent; anybody of the group may accept it."""

    escalation_id: str
    conversation: ConversationOut
    group_id: str
    rule: str
    reason: str
    priority: PriorityName
    major: bool
    waiting_since: str
    deadline: str
    order: dict[str, Any] | None
    orders: list[dict[str, Any]]
    transcript: list[MessageOut]
    suggestions: list[SuggestionOut]
    offered_to: str | None


class Taken(_Data):
    """Somebody has it; ``by`` is their name."""

    escalation_id: str
    conversation_id: str
    by: str | None = None


class Withdrawn(_Data):
    """Nobody is needed any more, or another group has it now."""

    escalation_id: str
    conversation_id: str


class Delivery(_Data):
    """What became of a message that went out."""

    message_id: str
    conversation_id: str
    status: Literal["sent", "failed", "unconfirmed"]
    error: str | None = None


class Suggestions(_Data):
    """Answers offered for a conversation."""

    conversation_id: str
    items: list[SuggestionOut]


class Told(_Data):
    """Something to know: ``code`` says what for programs, ``text`` for people."""

    conversation_id: str | None
    code: str
    text: str


class Nothing(_Data):
    """No data: reload by HTTP, what was asked for can't be replayed."""


class AgentSelf(_Data):
    """The signed-in person."""

    id: str
    name: str
    display_name: str
    role: Literal["admin", "supervisor", "agent"]


class HelloAnswer(_Data):
    """The answer to hello: one's desk as it stands, and after which event the stream goes on."""

    agent: AgentSelf
    groups: list[str]
    load: int
    max_load: int
    status: Literal["online", "busy", "resting", "offline"]
    reason: str | None
    conversations: list[ConversationOut]
    seq: int


EVENT_DATA: dict[str, type[BaseModel]] = {
    "escalation.offered": Offered,
    "escalation.taken": Taken,
    "escalation.withdrawn": Withdrawn,
    "conversation.assigned": ConversationOut,
    "conversation.updated": ConversationOut,
    "conversation.closed": ConversationOut,
    "message.created": MessageOut,
    "message.delivery": Delivery,
    "suggestions": Suggestions,
    "sla.warning": Told,
    "sla.breached": Told,
    "notice": Told,
    "resync": Nothing,
}
"""Every event type with the model of its data."""
