"""A conversation as its lane holds it between turns, and the codec of its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection, select

from app.core.values import changed
from app.domain.conversations import Conversation, ConversationState, Memory, Priority, RecentText
from app.storage.tables import conversations

__all__ = ["ConversationRecord", "load_record", "memory_from_json", "memory_to_json", "record_from_row"]

_MEMORY_DEFAULTS = tuple((field.name, field.default) for field in fields(Memory))
_MEMORY_FIELDS = frozenset(name for name, _ in _MEMORY_DEFAULTS)
_MEMORY_VALUES = attrgetter(*(name for name, _ in _MEMORY_DEFAULTS))


@dataclass(slots=True, kw_only=True)
class ConversationRecord:
    """One conversation's row in memory.

    ``stored_version`` is the version its row has, 0 while there is none yet; ``conversation.version`` may be ahead of it
    inside a turn that changes the owner.
    """

    conversation: Conversation
    buyer_id: int
    partition: int
    created_at_ms: int
    stored_version: int = 0
    waiting_since_ms: int | None = None
    buyer_changed: bool = False
    """Whether a message brought a nickname or tier that isn't stored yet."""

    @property
    def is_new(self) -> bool:
        """Whether the row is yet to be made."""
        return self.stored_version == 0

    @property
    def memory(self) -> Memory:
        """What the bot remembers."""
        return self.conversation.memory

    def with_conversation(self, **changes: Any) -> ConversationRecord:
        """Return a copy with fields of the conversation changed."""
        return changed(self, conversation=changed(self.conversation, **changes))


def memory_to_json(memory: Memory) -> str:
    """Write a memory as JSON text; what has its default is left out."""
    values = {
        name: value
        for (name, default), value in zip(_MEMORY_DEFAULTS, _MEMORY_VALUES(memory), strict=True)
        if value != default
    }
    return orjson.dumps(values).decode()


def memory_from_json(text: str) -> Memory:
    """Read what ``memory_to_json`` wrote; fields that this version doesn't know are left out."""
    document = orjson.loads(text)
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name == "recent":
            values[name] = tuple(RecentText(item["text"], item["at_ms"], item["times"]) for item in value)
        elif name in _MEMORY_FIELDS:
            values[name] = _tuples(value)
    return Memory(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


def record_from_row(row: Mapping[Any, Any]) -> ConversationRecord:
    """Make a record of a row of table ``conversations``."""
    return ConversationRecord(
        conversation=Conversation(
            id=row["id"],
            account_id=row["account_id"],
            external_id=row["external_id"],
            shop_id=row["shop_id"],
            channel=row["channel"],
            state=ConversationState(row["state"]),
            version=row["version"],
            buyer_external_id=row["buyer_external_id"],
            buyer_nickname=row["buyer_nickname"],
            buyer_tier=row["buyer_tier"],
            group_id=row["group_id"],
            agent_id=row["agent_id"],
            bot_paused=bool(row["bot_paused"]),
            stage=row["stage"],
            priority=Priority(row["priority"]),
            last_message_at_ms=row["last_message_at_ms"],
            memory=memory_from_json(row["memory"]),
        ),
        buyer_id=row["buyer_id"],
        partition=row["partition"],
        created_at_ms=row["created_at_ms"],
        stored_version=row["version"],
        waiting_since_ms=row["waiting_since_ms"],
    )


def load_record(connection: Connection, account_id: str, external_id: str) -> ConversationRecord | None:
    """Read one conversation by its platform key."""
    row = (
        connection.execute(
            select(conversations).where(
                conversations.c.account_id == account_id, conversations.c.external_id == external_id
            )
        )
        .mappings()
        .first()
    )
    return None if row is None else record_from_row(row)
