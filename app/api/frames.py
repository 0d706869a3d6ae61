"""The frames of agents' sockets as models: what is accepted, and what the AsyncAPI document is made of.

Source: the contracts page, section 4.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from app.domain.messages import Content, ContentType

__all__ = [
    "CLIENT_FRAMES",
    "Answer",
    "ClientFrame",
    "ContentModel",
    "ErrorData",
    "IdText",
    "ServerEvent",
    "parse_id",
]

MAX_ID = 2**63 - 1


def parse_id(value: object) -> object:
    """Read an id from its text. One that can't exist becomes 0, which nothing has, so that it is simply not found."""
    if not isinstance(value, str):
        raise ValueError("write ids as texts")
    if len(value) > 19 or not value.isascii() or not value.isdigit():
        return 0
    number = int(value)
    return number if number <= MAX_ID else 0


IdText = Annotated[
    int, BeforeValidator(parse_id), WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,19}$"})
]


class Strict(BaseModel):
    """No unknown fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ContentModel(Strict):
    """What a reply carries."""

    type: Annotated[ContentType, Field(strict=False)] = ContentType.TEXT
    text: str = ""
    url: Annotated[str | None, Field(max_length=2048, pattern=r"^https?://")] = None
    product_id: Annotated[str | None, Field(max_length=200)] = None

    def to_content(self) -> Content:
        """Return it as the domain has it."""
        return Content(type=self.type, text=self.text, url=self.url, product_id=self.product_id)


class Hello(Strict):
    """First frame: begin, or go on after an event."""

    resume_after: Annotated[int | None, Field(ge=0, le=MAX_ID)] = None
    takeover: bool = False


class SetStatus(Strict):
    """Presence; the status chosen last survives broken connections and restarts."""

    status: Literal["online", "busy", "resting", "offline"]
    reason: Annotated[str | None, Field(max_length=200)] = None


class Accept(Strict):
    """Take an escalation; exactly one wins."""

    escalation_id: IdText


class Decline(Strict):
    """Leave an escalation to the next."""

    escalation_id: IdText
    reason: Annotated[str | None, Field(max_length=500)] = None


class OfConversation(Strict):
    """Names a conversation and nothing else."""

    conversation_id: IdText


class Send(Strict):
    """Reply; the same client_message_id twice sends once."""

    conversation_id: IdText
    content: ContentModel
    client_message_id: Annotated[str, Field(min_length=1, max_length=100)]
    last_seen_message_id: IdText | None = None
    confirm: bool = False


class Note(Strict):
    """Write an internal note or, as a supervisor, whisper one; it can never reach the buyer."""

    conversation_id: IdText
    text: Annotated[str, Field(min_length=1, max_length=4000)]


class Target(Strict):
    """Exactly one of the two."""

    agent_id: IdText | None = None
    group_id: Annotated[str | None, Field(max_length=64)] = None


class Transfer(Strict):
    """Hand over with context and a note."""

    conversation_id: IdText
    to: Target
    note: Annotated[str, Field(max_length=4000)] = ""


class Resolve(Strict):
    """Close."""

    conversation_id: IdText
    outcome: Annotated[str, Field(min_length=1, max_length=100)]
    category: Annotated[str | None, Field(max_length=100)] = None


CLIENT_FRAMES: dict[str, type[Strict]] = {
    "hello": Hello,
    "status": SetStatus,
    "accept": Accept,
    "decline": Decline,
    "claim": OfConversation,
    "send": Send,
    "note": Note,
    "transfer": Transfer,
    "watch": OfConversation,
    "unwatch": OfConversation,
    "takeover": OfConversation,
    "whisper": Note,
    "release": OfConversation,
    "resolve": Resolve,
    "read": OfConversation,
}
"""Every type a client may send, with the model of its data."""


class ClientFrame(Strict):
    """The envelope of what a client sends."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    type: Annotated[str, Field(max_length=32)]
    data: dict[str, Any] = Field(default_factory=dict)


class ErrorData(Strict):
    """Why a frame was refused: a stable code, a text for a person, who holds it, and the fields to mend."""

    code: str
    message: str
    by: str | None = None
    errors: list[dict[str, str]] | None = None


class Answer(Strict):
    """The answer to the frame whose id is ``re`` (null: its id could not be read)."""

    re: str | None
    type: Literal["ok", "error"]
    data: dict[str, Any]


class ServerEvent(Strict):
    """Something that happened; seq rises, with gaps."""

    seq: int
    type: str
    data: dict[str, Any]
