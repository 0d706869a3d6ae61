"""Answering one entry: choose the answer that holds, fill it in, and do what its mode or its topic's rule says.

An entry's own text is never replaced; handlers only add what a rule demands. What is missing leads to the entry's
fallback, and without one to a human. Source: the contracts page, section 6.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.knowledge import Answer, AnswerMode, CaseSpec, Entry
from app.domain.orders import SHIPPED_STATUSES, Order
from app.domain.turns import Applied
from app.replies.conditions import holds
from app.replies.handlers import bargaining, logistics, order_choice, refunds
from app.replies.orders import OrderProblem
from app.replies.outcome import Outcome, OutcomeKind, Saying
from app.replies.plans import EntryPlan
from app.replies.rules import BY_STAGE, Rule
from app.replies.situation import Situation
from app.replies.templates import MissingFact
from app.replies.topics import (
    BARGAIN_TOPICS,
    ORDER_CHANGE_TOPICS,
    PARCEL_TOPICS,
    REFUND_TOPICS,
    SHIP_TOPICS,
    SOCIAL_TOPICS,
)

__all__ = ["answer_entry", "choose_answer", "fill_in"]

_APOLOGIES = ("抱歉", "对不起", "不好意思", "歉意", "sorry", "apolog")
_APOLOGY_RULES = frozenset({"E17", "E18", "E19"})


class _FactsForConditions:
    """Adapts a situation to what conditions ask, for one topic."""

    __slots__ = ("_situation", "_topic", "channel", "now_ms", "tier")

    def __init__(self, situation: Situation, topic: str) -> None:
        self._situation = situation
        self._topic = topic
        self.channel = situation.channel
        self.tier = situation.tier
        self.now_ms = situation.now_ms

    def local_minute(self) -> int:
        return self._situation.local_minute()

    def promo_is_running(self) -> bool:
        return self._situation.promo() is not None

    def order(self) -> Order | None:
        return self._situation.pick(self._topic).order

    def product(self) -> Mapping[str, object] | None:
        return self._situation.product()


def choose_answer(situation: Situation, entry: Entry) -> Answer:
    """Return the first conditional answer that holds, else the entry's default."""
    if not entry.answers:
        return entry.default
    facts = _FactsForConditions(situation, entry.topic)
    for answer in entry.answers:
        if answer.when is None or holds(answer.when, facts):
            return answer
    return entry.default


def fill_in(situation: Situation, entry: Entry, answer: Answer) -> Saying | None:
    """Return an answer's text in the buyer's language; None when it has none in that language.

    Raises:
        MissingFact: a slot has no value.
    """
    source = answer.text
    if situation.language != "zh":
        localised = entry.texts.get(situation.language)
        source = localised.answer if localised is not None else None
        if source is not None and answer is not entry.default and answer.mode is not entry.default.mode:
            # The translation is of the plain answer; this one ends differently, so it can't stand for it.
            source = None
    if not source:
        return None
    return Saying(situation.render(source, topic=entry.topic), source, entry.id)


def answer_entry(situation: Situation, entry: Entry, plan: EntryPlan, confidence: float) -> Outcome:
    """Return what an entry says to this turn."""
    topic = entry.topic
    applied = Applied(entry_id=entry.id, topic=topic, confidence=confidence)
    if plan.needs_order:
        if plan.escalates:
            situation.typed_counts = False
        elif (asked := _order_question(situation, entry, applied)) is not None:
            return asked
    answer = choose_answer(situation, entry)
    if answer.mode is AnswerMode.SUGGEST:
        return _escalate(situation, entry, answer, plan.rule, applied, None, reason="suggest_only")
    try:
        saying = fill_in(situation, entry, answer)
    except MissingFact as missing:
        situation.why.append(f"missing:{missing.slot}")
        return _without_fact(situation, entry, answer, plan, applied)
    if saying is None and answer.mode is AnswerMode.AUTO and plan.rule is None:
        if answer.text:
            # There is an answer, but not in the buyer's language.
            line = situation.say("language_unavailable", generic=True)
            return _escalate(situation, entry, answer, None, applied, line, reason="language")
        return _escalate(situation, entry, answer, None, applied, None, reason="no_answer")
    if answer.mode is AnswerMode.ESCALATE or plan.rule is not None:
        return _escalate(situation, entry, answer, plan.rule, applied, saying, reason="entry")
    assert saying is not None
    return _answered(situation, entry, answer, applied, saying)


def _answered(
    situation: Situation, entry: Entry, answer: Answer, applied: Applied, saying: Saying
) -> Outcome:
    topic = entry.topic
    outcome = Outcome(
        kind=OutcomeKind.ANSWER,
        sayings=(saying,),
        applied=applied,
        topic=topic,
        case=_case(situation, answer.case, topic),
        group=answer.group,
        title=entry.question,
        social=topic in SOCIAL_TOPICS,
    )
    if topic in PARCEL_TOPICS:
        return logistics.check_trace(situation, outcome)
    if topic in SHIP_TOPICS:
        return logistics.check_promise(situation, outcome)
    if topic in REFUND_TOPICS:
        return refunds.check_refund(situation, outcome)
    if topic in BARGAIN_TOPICS:
        return bargaining.climb(situation, outcome)
    return outcome


def _order_question(situation: Situation, entry: Entry, applied: Applied) -> Outcome | None:
    """Return the question or the handover that an unclear order leads to; None when answering can go on."""
    picked = situation.pick(entry.topic)
    if picked.problem is None:
        return None
    situation.why.append(f"order:{picked.problem.value}")
    if picked.problem is OrderProblem.SEVERAL:
        return order_choice.ask_which(situation, picked.options, entry.id, applied)
    if picked.problem is OrderProblem.NOT_FOUND:
        return order_choice.not_found(situation, entry.id, applied)
    if picked.problem is OrderProblem.UNAVAILABLE:
        return Outcome(
            kind=OutcomeKind.ESCALATE,
            sayings=(situation.say("orders_unavailable"),),
            applied=applied,
            topic=entry.topic,
            reason="orders_unavailable",
            group=entry.default.group,
        )
    return None


def _without_fact(
    situation: Situation, entry: Entry, answer: Answer, plan: EntryPlan, applied: Applied
) -> Outcome:
    topic = entry.topic
    fallback: Saying | None = None
    if entry.fallback and situation.language == "zh":
        try:
            fallback = Saying(
                situation.render(entry.fallback, topic=topic), entry.fallback, f"{entry.id}.fallback"
            )
        except MissingFact as missing:
            situation.why.append(f"missing:{missing.slot}")
    if answer.mode is AnswerMode.ESCALATE or plan.rule is not None:
        return _escalate(situation, entry, answer, plan.rule, applied, fallback, reason="entry")
    if topic in PARCEL_TOPICS and fallback is None:
        order = situation.known_order(topic)
        unshipped = logistics.not_shipped(situation, order, applied) if order is not None else None
        if unshipped is not None:
            return unshipped
    if (
        topic in REFUND_TOPICS
        and (order := situation.known_order(topic)) is not None
        # The order is known, so asking for its number, as the fallback does, would be odd.
        and (fallback is None or not order.doc.get("refunds"))
    ):
        return Outcome(
            kind=OutcomeKind.ANSWER, sayings=(situation.say("refund_none"),), applied=applied, topic=topic
        )
    if fallback is not None and situation.memory.asked_entry == entry.id:
        # It has asked for what it lacks before, so whatever the buyer gave is a colleague's now.
        passed = situation.say("passed_on", generic=True)
        return _escalate(situation, entry, answer, None, applied, passed, reason="missing_fact")
    if fallback is not None:
        situation.remember(asked_entry=entry.id)
        return Outcome(
            kind=OutcomeKind.ANSWER, sayings=(fallback,), applied=applied, topic=topic, title=entry.question
        )
    if plan.needs_order and situation.pick(topic).problem is OrderProblem.NONE:
        return order_choice.none_known(situation, entry.id, applied)
    return _escalate(situation, entry, answer, None, applied, None, reason="missing_fact")


def _escalate(
    situation: Situation,
    entry: Entry,
    answer: Answer,
    rule: Rule | None,
    applied: Applied,
    saying: Saying | None,
    *,
    reason: str,
) -> Outcome:
    """Hand over: the entry's collecting text or a built-in one, its own group before the rule's and the stage's."""
    topic = entry.topic
    sayings: tuple[Saying, ...]
    if saying is None:
        built_in = rule.text if rule is not None and rule.text is not None else "hold"
        sayings = (situation.say(built_in, generic=built_in in ("hold", "transfer")),)
    else:
        sayings = (saying,)
    if rule is not None and rule.id in _APOLOGY_RULES and not _apologises(sayings):
        sayings = (situation.say("apology"), *sayings)
    group = answer.group or entry.default.group
    if rule is not None and rule.group != BY_STAGE and (group is None or rule.major):
        group = rule.group
    if topic in ORDER_CHANGE_TOPICS and group == "presale":
        order = situation.known_order(topic)
        if order is not None and order.status in SHIPPED_STATUSES:
            group = "aftersale"
    return Outcome(
        kind=OutcomeKind.ESCALATE,
        sayings=sayings,
        applied=applied,
        topic=topic,
        rule=rule,
        reason=rule.reason if rule is not None and reason == "entry" else reason,
        group=group,
        case=_case(
            situation,
            answer.case or (CaseSpec(kind=rule.case) if rule is not None and rule.case else None),
            topic,
        ),
        title=entry.question,
    )


def _apologises(sayings: tuple[Saying, ...]) -> bool:
    return any(word in saying.text for saying in sayings for word in _APOLOGIES)


def _case(situation: Situation, case: CaseSpec | None, topic: str) -> CaseSpec | None:
    """Return a case with its fields filled in, and the order it is about; a field without a value is left out."""
    if case is None:
        return None
    fields: dict[str, str] = {}
    for name, value in case.fields.items():
        try:
            fields[name] = situation.render(value, topic=topic)
        except MissingFact:
            continue
    if "order_id" not in fields and (order := situation.known_order(topic)) is not None:
        fields["order_id"] = order.order_id
    return CaseSpec(kind=case.kind, fields=fields)
