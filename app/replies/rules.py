"""The escalation rules as a table: what triggers each, where it goes, how soon, and what the bot says.

Source: the domain rules, section 7 (E1–E19; E16 is an event without a chat turn and not decided here).
"""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.conversations import Priority
from app.replies.topics import (
    ADVERTISING_TOPICS,
    COMPLAINT_TOPICS,
    FAULT_TOPICS,
    HEALTH_TOPICS,
    MONEY_TOPICS,
    ORDER_CHANGE_TOPICS,
)

__all__ = ["BY_STAGE", "RULES", "Rule", "rule_of_topic"]

BY_STAGE = ""
"""A rule's group when the stage of the order decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row. ``topic`` is what the record shows as applied when the message itself triggered the rule.

    ``reason`` is the code agents see. ``plain``: no emoji, no welcome text. ``case`` is the kind of case it opens.
    ``ignore_hours``: people are told at once, also off-hours.
    """

    id: str
    reason: str
    group: str = BY_STAGE
    priority: Priority = Priority.NORMAL
    text: str | None = None
    topic: str | None = None
    case: str | None = None
    major: bool = False
    ignore_hours: bool = False
    plain: bool = False
    topics: frozenset[str] = frozenset()


RULES: tuple[Rule, ...] = (
    Rule(
        id="E1",
        reason="legal_threat",
        group="supervisor",
        priority=Priority.URGENT,
        text="threat",
        topic="esc_legal",
        case="complaint",
        major=True,
        ignore_hours=True,
        plain=True,
        topics=frozenset({"esc_legal"}),
    ),
    Rule(
        id="E2",
        reason="injury",
        group="supervisor",
        priority=Priority.URGENT,
        text="injury",
        topic="esc_injury",
        case="complaint",
        major=True,
        ignore_hours=True,
        plain=True,
        topics=frozenset({"esc_injury"}),
    ),
    Rule(
        id="E3", reason="asked_for_human", text="transfer", topic="esc_human", topics=frozenset({"esc_human"})
    ),
    Rule(
        id="E4",
        reason="anger",
        priority=Priority.HIGH,
        text="insult",
        topic="esc_anger",
        plain=True,
        topics=frozenset({"esc_anger"}),
    ),
    Rule(id="E5", reason="money_decision", topics=MONEY_TOPICS),
    Rule(id="E6", reason="order_change", priority=Priority.HIGH, topics=ORDER_CHANGE_TOPICS),
    Rule(id="E7", reason="not_understood", text="hold"),
    Rule(id="E8", reason="picture", text="image_aftersale", topic="media_image"),
    Rule(id="E9", reason="voice", text="media_human", topic="media_voice"),
    Rule(
        id="E10",
        reason="privacy_probe",
        group="supervisor",
        priority=Priority.HIGH,
        text="privacy_again",
        topic="esc_privacy",
        topics=frozenset({"esc_privacy"}),
    ),
    Rule(
        id="E11",
        reason="injection_attempt",
        priority=Priority.LOW,
        text="hold",
        topic="esc_injection",
        topics=frozenset({"esc_injection"}),
    ),
    Rule(id="E13", reason="order_not_found", text="order_not_found_again"),
    Rule(id="E14", reason="repeated", priority=Priority.HIGH, text="repeated"),
    Rule(id="E15", reason="health_question", group="presale", topics=HEALTH_TOPICS),
    Rule(id="E17", reason="own_overdue", group="aftersale", priority=Priority.HIGH),
    Rule(
        id="E18",
        reason="fault_reported",
        group="aftersale",
        priority=Priority.HIGH,
        plain=True,
        topics=FAULT_TOPICS,
    ),
    Rule(
        id="E19",
        reason="complaint",
        group="aftersale",
        priority=Priority.HIGH,
        plain=True,
        topics=COMPLAINT_TOPICS | ADVERTISING_TOPICS,
    ),
)
"""In the order in which a first rule gives its group."""

RULE: dict[str, Rule] = {rule.id: rule for rule in RULES}
_BY_TOPIC: dict[str, Rule] = {topic: rule for rule in RULES for topic in rule.topics}
_POSITION: dict[str, int] = {rule.id: position for position, rule in enumerate(RULES)}


def rule_of_topic(topic: str) -> Rule | None:
    """Return the rule that fires on a topic, if any."""
    return _BY_TOPIC.get(topic)


def position(rule_id: str) -> int:
    """Return a rule's place in the table; an id that is none (an entry's own mode) comes last."""
    return _POSITION.get(rule_id, len(RULES))
