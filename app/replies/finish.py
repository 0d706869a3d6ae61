"""Putting a turn's outcomes together: one reply, one escalation, one case, and the memory afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.domain.conversations import Priority
from app.domain.knowledge import CaseSpec, Entry
from app.domain.matching import Match
from app.domain.shops import ShopMode
from app.domain.turns import Applied, Decision, DecisionKind, Escalation, Reply, Suggestion
from app.replies import pace
from app.replies.handlers.opening import off_duty, welcome
from app.replies.outcome import Outcome, OutcomeKind, Saying
from app.replies.rules import position
from app.replies.situation import Situation
from app.replies.stage import group_by_stage, stage_label
from app.replies.suggestions import suggest
from app.replies.topics import GREETING_TOPICS

__all__ = ["finish"]

MAX_LENGTH = 300
"""Longest message in characters; more goes into a second one. Source: the domain rules, section 13."""

# Looked up once: naming a member of an enumeration takes longer than comparing it.
_ANSWER, _ASK, _ESCALATE = OutcomeKind.ANSWER, OutcomeKind.ASK, OutcomeKind.ESCALATE
_AUTO = ShopMode.AUTO

_MOST_SAYINGS = 4
_KEPT_ANSWERS = 5


@dataclass(slots=True)
class _Draft:
    sayings: list[Saying]
    escalation: Escalation | None = None
    case: CaseSpec | None = None
    plain: bool = False


def finish(situation: Situation, outcomes: Sequence[Outcome], matches: Sequence[Match]) -> Decision:
    """Return the decision that these outcomes make together.

    Raises:
        OrdersWanted: it ends with a human and the orders haven't been looked up.
    """
    checked = [_guarded(situation, outcome) for outcome in outcomes]
    escalations = [outcome for outcome in checked if outcome.kind is _ESCALATE]
    draft = _handover(situation, checked, escalations) if escalations else _said(checked)
    suggestions: tuple[Suggestion, ...] = ()
    if draft.escalation is not None:
        suggestions = suggest(situation, matches, _suggested_entries(situation, checked))
    replies = _replies(situation, draft, checked)
    kind = _kind(draft, checked, replies)
    return _decision(situation, draft, checked, matches, kind, replies, suggestions)


def _guarded(situation: Situation, outcome: Outcome) -> Outcome:
    """Let the outbound guard look at every text; a held one turns the outcome into a handover."""
    guard = situation.guard
    for saying in outcome.sayings:
        reason = guard.held(saying.source, saying.text)
        if reason is not None:
            situation.why.append(f"guard:{reason}")
            kept = tuple(other for other in outcome.sayings if guard.held(other.source, other.text) is None)
            return replace(
                outcome,
                kind=OutcomeKind.ESCALATE,
                sayings=kept or (situation.say("hold", generic=True),),
                reason="guard",
            )
    return outcome


def _said(outcomes: Sequence[Outcome]) -> _Draft:
    """Return what outcomes say when none of them needs a human."""
    draft = _Draft(_sayings(outcomes))
    for outcome in outcomes:
        if outcome.case is not None:
            draft.case = outcome.case
            break
    return draft


def _sayings(outcomes: Sequence[Outcome]) -> list[Saying]:
    if len(outcomes) == 1:
        return list(outcomes[0].sayings)
    said: list[Saying] = []
    for outcome in outcomes:
        for saying in outcome.sayings:
            if all(saying.text != other.text and not _asks_the_same(saying, other) for other in said):
                said.append(saying)
    return said[:_MOST_SAYINGS]


def _asks_the_same(one: Saying, other: Saying) -> bool:
    """Whether two texts both only ask for the order number, so that one of them is enough."""
    return all(saying.node.endswith(".fallback") and "订单号" in saying.text for saying in (one, other))


def _handover(situation: Situation, outcomes: Sequence[Outcome], escalations: Sequence[Outcome]) -> _Draft:
    situation.want_orders()
    lead = min(escalations, key=lambda outcome: position(outcome.rule.id) if outcome.rule is not None else 99)
    rule = lead.rule
    rules = [outcome.rule for outcome in escalations if outcome.rule is not None]
    priority = max((rule.priority for rule in rules), key=lambda one: one.rank, default=Priority.NORMAL)
    order = situation.known_order(lead.topic)
    group = lead.group or group_by_stage(order, lead.topic, situation.now_ms)
    major = rule is not None and rule.major
    if major:
        said = list(lead.sayings)
    else:
        answers = [
            outcome for outcome in outcomes if outcome.kind is OutcomeKind.ANSWER and not outcome.social
        ]
        ordered = [*answers, lead, *(outcome for outcome in escalations if outcome is not lead)]
        said = _sayings(ordered)
        if any(not saying.generic for saying in said) and len(escalations) > 1:
            said = [saying for saying in said if not saying.generic] or said
        if situation.is_vip:
            group, priority = "vip", priority.raised()
            situation.why.append("E12")
    escalation = Escalation(
        group=group,
        rule=rule.id if rule is not None else "entry" if lead.applied is not None else "",
        reason=lead.reason,
        priority=priority,
        major=major,
        ignore_hours=rule is not None and rule.ignore_hours,
    )
    case = lead.case or next((outcome.case for outcome in outcomes if outcome.case is not None), None)
    plain = any(one.plain for one in rules)
    draft = _Draft(said, escalation, case, plain)
    if situation.held:
        return _while_waiting(situation, draft)
    if not major and situation.is_vip:
        draft.sayings = [*draft.sayings, situation.say("vip_service")]
    if not escalation.ignore_hours:
        draft.sayings = off_duty(situation, escalation.group, draft.sayings)
    return draft


def _while_waiting(situation: Situation, draft: _Draft) -> _Draft:
    """A human is already called: no second escalation, but it may become more urgent or move to the supervisor."""
    escalation = draft.escalation
    assert escalation is not None
    conversation = situation.turn.conversation
    more_urgent = escalation.priority.rank > conversation.priority.rank
    moves = escalation.major and conversation.group_id != escalation.group
    draft.sayings = [saying for saying in draft.sayings if not saying.generic]
    if more_urgent or moves:
        situation.why.append("raised")
        group = escalation.group if escalation.major else conversation.group_id or escalation.group
        draft.escalation = replace(escalation, group=group, raises_open=True)
    else:
        situation.why.append("already_waiting")
        draft.escalation = None
    return draft


def _suggested_entries(situation: Situation, outcomes: Sequence[Outcome]) -> list[Entry]:
    by_id = situation.turn.snapshot.by_id
    return [
        by_id[outcome.applied.entry_id]
        for outcome in outcomes
        if outcome.applied is not None and outcome.applied.entry_id in by_id
    ]


def _replies(situation: Situation, draft: _Draft, outcomes: Sequence[Outcome]) -> tuple[Reply, ...]:
    sayings = [saying for saying in draft.sayings if saying.text]
    if not sayings:
        return ()
    if not situation.memory.welcomed and not _only_courtesy(outcomes):
        situation.remember(welcomed=True)
        if not draft.plain and (opening := welcome(situation, greets=_only_greets(outcomes))) is not None:
            sayings.insert(0, opening)
    first = sayings[0]
    if len(sayings) == 1 and len(first.text) <= MAX_LENGTH:
        return (Reply(text=first.text, node=first.node),)
    messages: list[Reply] = []
    for saying in sayings:
        joint = f"{messages[-1].text}\n{saying.text}" if messages else ""
        if messages and len(joint) <= MAX_LENGTH:
            messages[-1] = Reply(text=joint, node=f"{messages[-1].node}+{saying.node}")
        else:
            messages.extend(Reply(text=part, node=saying.node) for part in _parts(saying.text))
    return tuple(messages)


def _only_courtesy(outcomes: Sequence[Outcome]) -> bool:
    """Whether a turn only returns thanks, a farewell or an 'ok': a welcome before that comes too late."""
    for outcome in outcomes:
        if not outcome.social or outcome.topic in GREETING_TOPICS or outcome.reason == "greeted":
            return False
    return True


def _only_greets(outcomes: Sequence[Outcome]) -> bool:
    return outcomes[0].topic in GREETING_TOPICS and all(
        outcome.topic in GREETING_TOPICS for outcome in outcomes
    )


def _parts(text: str) -> list[str]:
    """Cut a text that is too long for one message, at the ends of sentences where there are any."""
    parts: list[str] = []
    while len(text) > MAX_LENGTH:
        cut = max(text.rfind(mark, 0, MAX_LENGTH) for mark in "。！？!?\n；;")
        cut = cut + 1 if cut > MAX_LENGTH // 3 else MAX_LENGTH
        parts.append(text[:cut].strip())
        text = text[cut:].strip()
    if text:
        parts.append(text)
    return parts


def _kind(draft: _Draft, outcomes: Sequence[Outcome], replies: tuple[Reply, ...]) -> DecisionKind:
    if draft.escalation is not None:
        return DecisionKind.ESCALATE
    if not replies:
        return DecisionKind.SILENT
    for outcome in outcomes:
        if outcome.kind is _ASK:
            return DecisionKind.ASK
    return DecisionKind.ANSWER


def _decision(
    situation: Situation,
    draft: _Draft,
    outcomes: Sequence[Outcome],
    matches: Sequence[Match],
    kind: DecisionKind,
    replies: tuple[Reply, ...],
    suggestions: tuple[Suggestion, ...],
) -> Decision:
    why = situation.why
    applied: list[Applied] = []
    topics: list[str] = []
    for outcome in outcomes:
        if outcome.rule is not None:
            why.append(outcome.rule.id)
        elif outcome.reason:
            why.append(outcome.reason)
        if outcome.applied is not None:
            applied.append(outcome.applied)
        if outcome.topic is not None:
            topics.append(outcome.topic)
    _remember_outcomes(situation, outcomes)
    mode = situation.shop.mode
    escalation = draft.escalation
    if mode is not _AUTO:
        why.append(mode.value)
        if mode is ShopMode.SUPERVISED and kind is not DecisionKind.SILENT:
            kind = (
                DecisionKind.ESCALATE
                if not situation.held or escalation is not None
                else DecisionKind.SUGGEST
            )
            if escalation is None and not situation.held:
                escalation = _supervised(situation, outcomes)
        suggestions = _as_suggestions(replies, outcomes, suggestions)
        replies = ()
    elif replies:
        pace.note_automatic(situation)
    order = situation.known_order(topics[-1] if topics else None)
    return Decision(
        kind=kind,
        memory=situation.memory_after(),
        replies=replies,
        applied=tuple(applied),
        matches=tuple(matches),
        escalation=escalation,
        case=draft.case,
        suggestions=suggestions,
        order_id=situation.remembered("order_id"),
        stage=stage_label(situation.turn.conversation.stage, topics, order),
        log_codes=tuple(situation.logs),
        why=tuple(why),
    )


def _supervised(situation: Situation, outcomes: Sequence[Outcome]) -> Escalation:
    """A supervised shop's automatic answer waits for a human of the stage's group."""
    situation.want_orders()
    topic = next((outcome.topic for outcome in outcomes if outcome.topic is not None), None)
    group = group_by_stage(situation.known_order(topic), topic, situation.now_ms)
    priority = Priority.NORMAL
    if situation.is_vip:
        group, priority = "vip", priority.raised()
    return Escalation(group=group, rule="supervised", reason="supervised", priority=priority)


def _as_suggestions(
    replies: tuple[Reply, ...], outcomes: Sequence[Outcome], others: tuple[Suggestion, ...]
) -> tuple[Suggestion, ...]:
    lead = next((outcome for outcome in outcomes if outcome.applied is not None), None)
    entry_id = lead.applied.entry_id if lead is not None and lead.applied is not None else ""
    score = min(1.0, lead.applied.confidence) if lead is not None and lead.applied is not None else 1.0
    title = lead.title if lead is not None else ""
    own = tuple(
        Suggestion(entry_id=entry_id or reply.node, title=title or reply.node, text=reply.text, score=score)
        for reply in replies
    )
    said = {suggestion.text for suggestion in own}
    return (*own, *(other for other in others if other.text not in said))[:3]


def _remember_outcomes(situation: Situation, outcomes: Sequence[Outcome]) -> None:
    memory = situation.memory
    answered = memory.answered
    topic: str | None = None
    settled = False
    for outcome in outcomes:
        if outcome.kind is _ESCALATE:
            settled = True
        elif outcome.kind is _ANSWER and outcome.applied is not None and not outcome.social:
            settled = True
            topic = outcome.topic
            answered = (*answered, (outcome.applied.entry_id, situation.now_ms))
    if topic is not None:
        situation.remember(topic=topic, answered=answered[-_KEPT_ANSWERS:])
    if settled:
        if memory.offered:
            situation.forget(offered=())
        if memory.order_choices:
            situation.forget(order_choices=())
        if memory.unknown_streak:
            situation.forget(unknown_streak=0)
        if memory.asked_entry is not None:
            situation.forget(asked_entry=None)
        if memory.topic_counts:
            situation.forget(topic_counts=())
        if memory.order_misses and situation.turn.orders is not None:
            situation.forget(order_misses=0)
