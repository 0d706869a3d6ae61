"""A conversation's owner machine, and what the bot remembers of it.

::

              escalate                accept, claim, takeover, unmatched echo
      bot ───────────────► queued ─────────────────────────► human
       ▲ ◄── withdrawn ──────┘  ▲                              │ │
       │                        └── transfer to a group, gone ─┘ │
       ├────────────────────────── release ──────────────────────┘
       │
       └── new message (a new session) ◄── closed ◄── resolve, silence (from any state)

An agent may also write first in a closed conversation: closed → human.
"""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum

from app.core.values import value

__all__ = ["Conversation", "ConversationState", "Memory", "Priority", "RecentText", "is_legal"]


class ConversationState(StrEnum):
    """Who owns a conversation."""

    BOT = "bot"
    QUEUED = "queued"
    HUMAN = "human"
    CLOSED = "closed"


_LEGAL: frozenset[tuple[ConversationState, ConversationState]] = frozenset(
    {
        (ConversationState.BOT, ConversationState.QUEUED),
        (ConversationState.BOT, ConversationState.HUMAN),
        (ConversationState.QUEUED, ConversationState.HUMAN),
        (ConversationState.HUMAN, ConversationState.HUMAN),
        (ConversationState.HUMAN, ConversationState.QUEUED),
        (ConversationState.HUMAN, ConversationState.BOT),
        (ConversationState.QUEUED, ConversationState.BOT),
        (ConversationState.CLOSED, ConversationState.BOT),
        (ConversationState.CLOSED, ConversationState.HUMAN),
    }
)


def is_legal(before: ConversationState, after: ConversationState) -> bool:
    """Whether the owner machine allows this step. Closing is always legal; staying is no step."""
    return after is ConversationState.CLOSED or before is after or (before, after) in _LEGAL


class Priority(StrEnum):
    """How soon a human is needed."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    URGENT = "urgent"

    @property
    def rank(self) -> int:
        """0 for low up to 3 for urgent."""
        return ("low", "normal", "high", "urgent").index(self.value)

    def raised(self) -> Priority:
        """Return the next higher priority, or urgent."""
        return tuple(Priority)[min(3, self.rank + 1)]


@value(frozen=True, slots=True)
class RecentText:
    """A normalised text the buyer sent lately, when it was sent, and how often in a row so far."""

    text: str
    at_ms: int
    times: int = 1


@value(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the bot keeps of one session of a conversation; starts empty with each session.

    Everything here is small and serialisable; it is stored with the conversation's row after each turn.
    """

    session: int = 0
    welcomed: bool = False
    unknown_streak: int = 0
    non_text_streak: int = 0
    voice_streak: int = 0
    insults: int = 0
    privacy_probes: int = 0
    order_misses: int = 0
    bargains: int = 0
    recent: tuple[RecentText, ...] = ()
    offered: tuple[str, ...] = ()
    """Entry ids offered by the last ask-back, in the order shown; a bare '1' or '第二个' picks one."""
    order_choices: tuple[str, ...] = ()
    """Order ids listed by the last 'which order' question."""
    asked_entry: str | None = None
    """The entry whose answer waits for the order that was asked for."""
    topic: str | None = None
    """Topic of the last answered question."""
    order_id: str | None = None
    """The order this session is about, once it is known."""
    product_id: str | None = None
    answered: tuple[tuple[str, int], ...] = ()
    """(entry id, at_ms) of the last few answers given, for the repeat guard."""
    automatic_ms: tuple[int, ...] = ()
    """Times of the last automatic turns, for the loop guard."""
    off_hours_told_ms: int | None = None
    topic_counts: tuple[tuple[str, int], ...] = ()
    """How often some topics came up in this session (three-step topics, bargaining ladder)."""


@value(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation as a turn or an agent sees it. ``version`` rises with every change of owner."""

    id: int
    account_id: str
    external_id: str
    shop_id: str
    channel: str
    state: ConversationState
    version: int
    buyer_external_id: str
    buyer_nickname: str | None = None
    buyer_tier: str | None = None
    group_id: str | None = None
    agent_id: int | None = None
    bot_paused: bool = False
    stage: str = "welcome"
    priority: Priority = Priority.NORMAL
    last_message_at_ms: int | None = None
    memory: Memory = field(default_factory=Memory)
