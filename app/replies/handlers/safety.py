"""The rules that read the message itself: threats, harm, insults, a wish for a human, privacy, commands.

Source: the domain rules, E1–E4, E10 and E11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from app.domain.knowledge import CaseSpec
from app.domain.matching import Match
from app.domain.turns import Applied
from app.replies import lexicon
from app.replies.outcome import Outcome, OutcomeKind
from app.replies.rules import RULE, Rule
from app.replies.situation import Situation

__all__ = ["fired_rules", "rule_outcome", "speaks_to_assistant"]

_DETECTORS: Mapping[str, Callable[[str], object]] = {
    "E1": lexicon.is_threat,
    "E2": lexicon.reports_injury,
    "E3": lexicon.asks_for_human,
    "E4": lexicon.is_insult,
    "E10": lexicon.asks_for_others_data,
    "E11": lexicon.injection_spans,
}

_FIRED_BY = {topic: id_ for id_ in _DETECTORS for topic in RULE[id_].topics}
"""Topics that fire one of the rules here, whatever the message's words."""

# Buyers also write Traditional characters; these are the ones the lexicon's words are made of.
_TRADITIONAL = frozenset(
    "轉訴報師體記發騙氣爛過腫燙傷著個換說機別買誰電話號統詞規則醫監協會請見這還給寫訂單們無惡噁臉廢壞態處務係聯絡嗎麼沒來為開現從員輸裝鑰質慣訟視網東樣滾親問題實邊"
)
_SIMPLIFIED = str.maketrans(
    "轉訴報師體記發騙氣爛過腫燙傷著個換說機別買誰電話號統詞規則醫監協會請見這還給寫訂單們無惡噁臉廢壞態處務係聯絡嗎麼沒來為開現從員輸裝鑰質慣訟視網東樣滾親問題實邊",
    "转诉报师体记发骗气烂过肿烫伤着个换说机别买谁电话号统词规则医监协会请见这还给写订单们无恶恶脸废坏态处务系联络吗么没来为开现从员输装钥质惯讼视网东样滚亲问题实边",
)


def fired_rules(situation: Situation, best_topics: Sequence[str]) -> list[Rule]:
    """Return the rules among E1–E4, E10 and E11 that this turn triggers, in the table's order.

    Args:
        situation: the turn.
        best_topics: topics of entries that matched with certainty; a rule fires on its topic too.
    """
    fired = {_FIRED_BY[topic] for topic in best_topics if topic in _FIRED_BY}
    plain = situation.text
    if not _TRADITIONAL.isdisjoint(plain):
        plain = plain.translate(_SIMPLIFIED)
    for rule_id in lexicon.signals(plain):
        if _DETECTORS[rule_id](plain):
            fired.add(rule_id)
    return [rule for rule in RULE.values() if rule.id in fired] if fired else []


def speaks_to_assistant(match: Match) -> bool:
    """Whether a question is only a command to the assistant, with no real question left beside it."""
    spans = lexicon.injection_spans(match.text)
    if not spans:
        return False
    rest = len(match.text) - sum(end - start for start, end in spans)
    return rest < 4


def rule_outcome(situation: Situation, rule: Rule) -> Outcome:
    """Return what a rule says by itself, with the built-in text."""
    if rule.id == "E10":
        return _privacy(situation, rule)
    if rule.id == "E11":
        return _injection(situation, rule)
    assert rule.text is not None
    assert rule.topic is not None
    group = rule.group or None
    if rule.id == "E4":
        insults = situation.memory.insults + 1
        situation.remember(insults=min(insults, 9))
        group = "supervisor" if insults >= 2 else _anger_group(situation)
    if rule.id == "E3" and situation.held:
        return Outcome(
            kind=OutcomeKind.ANSWER,
            sayings=(situation.say("queue_wait"),),
            applied=_applied(rule),
            topic=rule.topic,
            reason="already_waiting",
        )
    return Outcome(
        kind=OutcomeKind.ESCALATE,
        sayings=(situation.say(rule.text, generic=rule.text == "transfer"),),
        applied=_applied(rule),
        topic=rule.topic,
        rule=rule,
        reason=rule.reason,
        group=group,
        case=_case(situation, rule),
    )


def _anger_group(situation: Situation) -> str:
    """Aftersale when the buyer has any order, else presale."""
    situation.want_orders()
    view = situation.turn.orders
    return "aftersale" if view is not None and (view.orders or view.attached) else "presale"


def _case(situation: Situation, rule: Rule) -> CaseSpec | None:
    if rule.case is None:
        return None
    fields = {"issue": "legal" if rule.id == "E1" else "injury"}
    if (order := situation.known_order()) is not None:
        fields["order_id"] = order.order_id
    return CaseSpec(kind=rule.case, fields=fields)


def _privacy(situation: Situation, rule: Rule) -> Outcome:
    situation.logs.append("privacy_probe")
    probes = situation.memory.privacy_probes + 1
    situation.remember(privacy_probes=min(probes, 9))
    if probes >= 2:
        return Outcome(
            kind=OutcomeKind.ESCALATE,
            sayings=(situation.say("privacy_again"),),
            applied=_applied(rule),
            topic=rule.topic,
            rule=rule,
            reason=rule.reason,
            group=rule.group,
        )
    return Outcome(
        kind=OutcomeKind.ANSWER,
        sayings=(situation.say("privacy_refusal"),),
        applied=_applied(rule),
        topic=rule.topic,
        reason=rule.reason,
    )


def _injection(situation: Situation, rule: Rule) -> Outcome:
    """Refuse without a word about internals; it counts as not understood, so that a second one reaches a human."""
    streak = situation.memory.unknown_streak
    situation.remember(unknown_streak=min(9, streak + 1))
    if streak >= 1 and not situation.held:
        return Outcome(
            kind=OutcomeKind.ESCALATE,
            sayings=(situation.say("hold", generic=True),),
            applied=_applied(rule),
            topic=rule.topic,
            rule=rule,
            reason=rule.reason,
        )
    return Outcome(
        kind=OutcomeKind.ASK,
        sayings=(situation.say("injection_refusal"),),
        applied=_applied(rule),
        topic=rule.topic,
        reason=rule.reason,
    )


def _applied(rule: Rule) -> Applied:
    assert rule.topic is not None
    return Applied(entry_id=rule.topic, topic=rule.topic, confidence=1.0)
