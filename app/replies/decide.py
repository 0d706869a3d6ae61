"""The reply policy: one pure function from a turn to a decision.

First what the message itself demands (threats, harm, a wish for a human), then the pace guards, then picks from earlier
questions, then the questions in it. A turn that needs the orders says so once and is asked again with them.
Source: the design page, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.domain.conversations import ConversationState
from app.domain.knowledge import Entry
from app.domain.matching import Band, Match
from app.domain.shops import ShopMode
from app.domain.turns import Decision, DecisionKind, NeedOrders, Turn
from app.replies import pace
from app.replies.finish import finish
from app.replies.fitness import fitting
from app.replies.guard import Guard
from app.replies.handlers import ask_back, faq, media, order_choice, safety, unknown
from app.replies.heard import entry_of, is_social, matches_of, note_attachments
from app.replies.lexicon import is_affirmation
from app.replies.outcome import OrdersWanted, Outcome, OutcomeKind
from app.replies.plans import EntryPlans
from app.replies.rules import RULE, Rule
from app.replies.situation import Situation
from app.replies.stage import stage_label
from app.replies.suggestions import suggest
from app.replies.talk import Talk, talk_of
from app.replies.templates import TemplateSet
from app.replies.texts import TextBook

__all__ = ["ReplyPolicy"]

# Looked up once: naming a member of an enumeration takes longer than comparing it.
_SURE, _UNSURE = Band.ANSWER, Band.ASK
_HUMAN = ConversationState.HUMAN
_OFF = ShopMode.OFF
_NEW = pace.Repeat.NEW

_MOST_QUESTIONS = 4
_MEDIA = frozenset({"image", "voice", "order_card", "product_card"})
_FRAGMENT = 4
"""Up to this many characters an utterance nobody understood is taken for a part of the burst, not for a question."""


class ReplyPolicy:
    """Decides turns. Holds built-in texts and compiled templates; nothing of any conversation."""

    def __init__(self, *, texts: TextBook, templates: TemplateSet, guard: Guard | None = None) -> None:
        self._texts = texts
        self._templates = templates
        self._guard = guard if guard is not None else Guard()
        self._plans = EntryPlans(templates)

    def decide(self, turn: Turn) -> Decision | NeedOrders:
        """Return what to do about a turn, or which orders have to be looked up first.

        With ``turn.orders`` set the answer is always a decision.
        """
        if turn.shop.mode is _OFF:
            return Decision(
                kind=DecisionKind.SILENT,
                memory=turn.memory,
                matches=matches_of(turn),
                stage=turn.conversation.stage,
                why=("off",),
            )
        try:
            return self._decide(Situation(turn, self._texts, self._templates, self._guard))
        except OrdersWanted as wanted:
            return NeedOrders(order_id=wanted.order_id, trusted=wanted.trusted)

    def _decide(self, situation: Situation) -> Decision:
        turn = situation.turn
        heard = matches_of(turn)
        conversation = turn.conversation
        matches = [fitting(match, turn.snapshot.by_id, conversation.stage) for match in heard]
        note_attachments(situation)
        sure = [
            (match, entry)
            for match in matches
            if match.band is _SURE and (entry := entry_of(situation, match)) is not None
        ]
        fired = safety.fired_rules(situation, [entry.topic for _, entry in sure])
        severe = [rule for rule in fired if rule.major] if fired else fired
        if conversation.state is _HUMAN:
            return _only_suggest(situation, heard, fired)
        if conversation.bot_paused and not (severe and not situation.held):
            return _only_suggest(situation, heard, fired)
        kinds = {media.kind_of(utterance) for utterance in turn.utterances}
        # A mark like '[图片]' is the same text every time, but never the same picture.
        repeat = pace.note_text(situation) if not kinds <= _MEDIA else _NEW
        if severe and not (situation.held and repeat is not _NEW):
            decision = finish(situation, self._by_rules(situation, severe, sure), heard)
            return replace(decision, replies=()) if conversation.bot_paused else decision
        guarded = self._paced(situation, repeat, matches)
        outcomes = guarded if guarded is not None else self._outcomes(situation, kinds, matches, sure, fired)
        return finish(situation, outcomes, heard)

    def _paced(
        self, situation: Situation, repeat: pace.Repeat, matches: Sequence[Match]
    ) -> list[Outcome] | None:
        """Return what a pace guard makes of the turn, or None to go on."""
        if pace.is_looping(situation):
            situation.why.append("loop_guard")
            if situation.held:
                return [Outcome(kind=OutcomeKind.SILENT, reason="loop_guard")]
            return [
                Outcome(
                    kind=OutcomeKind.ESCALATE,
                    sayings=(situation.say("hold", generic=True),),
                    reason="loop_guard",
                )
            ]
        if repeat is _NEW or _picks_something(situation, matches):
            return None
        if repeat is pace.Repeat.AGAIN or is_social(situation):
            return [Outcome(kind=OutcomeKind.SILENT, reason="repeat_guard")]
        rule = RULE["E14"]
        if situation.held:
            return [Outcome(kind=OutcomeKind.ESCALATE, rule=rule, reason=rule.reason)]
        assert rule.text is not None
        return [
            Outcome(
                kind=OutcomeKind.ESCALATE, sayings=(situation.say(rule.text),), rule=rule, reason=rule.reason
            )
        ]

    def _by_rules(
        self, situation: Situation, rules: Sequence[Rule], sure: Sequence[tuple[Match, Entry]]
    ) -> list[Outcome]:
        """Return what rules say, in an entry's words where one of their topic matched."""
        outcomes: list[Outcome] = []
        for rule in rules:
            own = next(((match, entry) for match, entry in sure if entry.topic in rule.topics), None)
            outcome = safety.rule_outcome(situation, rule)
            if (
                own is not None
                and outcome.kind is OutcomeKind.ESCALATE
                and rule.id in ("E1", "E2", "E3", "E4")
            ):
                match, entry = own
                said = faq.answer_entry(situation, entry, self._plans.of(entry), match.confidence)
                if said.kind is OutcomeKind.ESCALATE:
                    outcome = replace(
                        outcome,
                        sayings=tuple(
                            replace(saying, generic=rule.text == "transfer") for saying in said.sayings
                        ),
                        applied=said.applied,
                        case=said.case or outcome.case,
                        group=outcome.group or said.group,
                    )
            outcomes.append(outcome)
        return outcomes

    def _outcomes(
        self,
        situation: Situation,
        kinds: set[str],
        matches: Sequence[Match],
        sure: list[tuple[Match, Entry]],
        fired: list[Rule],
    ) -> list[Outcome]:
        if fired:
            if (outcomes := self._under_rules(situation, matches, sure, fired)) is not None:
                return outcomes
            # Only a command with a real question beside it gets here: that question is answered as any other.
            matches = [match for match in matches if not safety.speaks_to_assistant(match)]
            sure = [pair for pair in sure if pair[0] in matches and pair[1].topic not in RULE["E11"].topics]
        if "text" in kinds:
            if situation.memory.non_text_streak or situation.memory.voice_streak:
                situation.remember(non_text_streak=0, voice_streak=0)
        else:
            return self._without_text(situation, kinds)
        if (picked := self._picked(situation, matches, sure)) is not None:
            return [picked]
        if (talk := talk_of(situation.text)) is not None and not _answers_us(situation):
            return [self._talked(situation, talk)]
        return self._questions(situation, matches, sure)

    def _talked(self, situation: Situation, talk: Talk) -> Outcome:
        """Return what a message gets that only keeps the talk going."""
        if talk is Talk.THANKS and not situation.held:
            entry = situation.turn.snapshot.by_id.get("close_thanks")
            if entry is not None:
                return faq.answer_entry(situation, entry, self._plans.of(entry), 1.0)
            return Outcome(kind=OutcomeKind.ANSWER, sayings=(situation.say("thanked"),), social=True)
        return unknown.acknowledged(situation)

    def _under_rules(
        self,
        situation: Situation,
        matches: Sequence[Match],
        sure: list[tuple[Match, Entry]],
        fired: list[Rule],
    ) -> list[Outcome] | None:
        """Return what fired rules (beside the severe ones) make of the turn; None when it goes on as usual."""
        ids = {rule.id for rule in fired}
        others = [
            (match, entry) for match, entry in sure if all(entry.topic not in rule.topics for rule in fired)
        ]
        if ids == {"E11"}:
            real = [pair for pair in others if not safety.speaks_to_assistant(pair[0])]
            if real:
                situation.logs.append("injection_attempt")
                situation.why.append("E11")
                return None
        outcomes = self._by_rules(situation, fired, sure)
        if any(outcome.kind is OutcomeKind.ESCALATE for outcome in outcomes):
            # A concrete matter beside anger or the wish for a human brings its own collecting text and case.
            concrete = [
                outcome
                for match, entry in others
                if (plan := self._plans.of(entry)).escalates
                and (outcome := faq.answer_entry(situation, entry, plan, match.confidence)).kind
                is OutcomeKind.ESCALATE
            ]
            if concrete and "E4" in ids:
                outcomes = [
                    replace(outcome, sayings=())
                    if outcome.rule is not None and outcome.rule.id == "E4"
                    else outcome
                    for outcome in outcomes
                ]
            outcomes += concrete
        return outcomes

    def _without_text(self, situation: Situation, kinds: set[str]) -> list[Outcome]:
        if kinds <= {"order_card", "product_card"} and situation.memory.asked_entry is not None:
            entry = situation.turn.snapshot.by_id.get(situation.memory.asked_entry)
            if entry is not None:
                return [faq.answer_entry(situation, entry, self._plans.of(entry), 1.0)]
        if situation.held and kinds <= {"emoji", "image", "voice"}:
            # The colleague who is coming will see it.
            return [Outcome(kind=OutcomeKind.SILENT, reason="waiting_for_human")]
        return [media.answer_media(situation, kinds)]

    def _picked(
        self, situation: Situation, matches: Sequence[Match], sure: Sequence[tuple[Match, Entry]]
    ) -> Outcome | None:
        """Return the answer to what the buyer picked from our last question, or None."""
        memory = situation.memory
        if not (memory.offered or memory.order_choices or memory.asked_entry):
            return None
        by_id = situation.turn.snapshot.by_id
        entry = ask_back.picked_entry(situation, matches)
        if entry is not None:
            situation.why.append("picked")
            situation.remember(offered=())
            return faq.answer_entry(situation, entry, self._plans.of(entry), 1.0)
        waiting = by_id.get(memory.asked_entry) if memory.asked_entry is not None else None
        if any(entry.topic != memory.asked_entry and entry is not waiting for _, entry in sure):
            return None
        if order_choice.picked_order(situation):
            situation.why.append("order_picked")
            situation.remember(order_choices=())
            situation.forget_picks()
            if waiting is not None:
                situation.remember(asked_entry=None)
                return faq.answer_entry(situation, waiting, self._plans.of(waiting), 1.0)
            return Outcome(
                kind=OutcomeKind.ASK, sayings=(situation.say("order_noted"),), reason="order_number"
            )
        if waiting is not None and "product" in waiting.needs and situation.names_product():
            situation.remember(asked_entry=None)
            return faq.answer_entry(situation, waiting, self._plans.of(waiting), 1.0)
        return None

    def _questions(
        self, situation: Situation, matches: Sequence[Match], sure: Sequence[tuple[Match, Entry]]
    ) -> list[Outcome]:
        """Answer every sure question; ask back or clarify only when nothing is sure."""
        outcomes: list[Outcome] = []
        seen: set[str] = set()
        for match, entry in sure:
            if entry.id not in seen and len(seen) < _MOST_QUESTIONS:
                seen.add(entry.id)
                outcomes.append(faq.answer_entry(situation, entry, self._plans.of(entry), match.confidence))
        if len(outcomes) > 1:
            real = [outcome for outcome in outcomes if not outcome.social]
            outcomes = real or outcomes[:1]
        if outcomes and len(outcomes) == len(matches):
            return outcomes
        unsure = (
            [match for match in matches if not any(match is known for known, _ in sure)] if sure else matches
        )
        if outcomes and not (unsure and outcomes[0].social):
            if any(len(match.text) > _FRAGMENT and unknown.is_weighty(match.text) for match in unsure):
                # What is left unanswered is no small talk: a colleague reads it, and what is sure goes out with it.
                situation.why.append("partly_understood")
                outcomes.append(unknown.to_human(situation))
            return outcomes
        if len(unsure) > 1:
            unsure = [match for match in unsure if len(match.text.strip()) > _FRAGMENT] or unsure
        answered = self._unsure(situation, unsure)
        if answered is None:
            return outcomes or [unknown.not_understood(situation, social=is_social(situation))]
        return [answered]

    def _unsure(self, situation: Situation, matches: Sequence[Match]) -> Outcome | None:
        """Return the question back for matches in the middle band, or the not-understood outcome; None: no question."""
        if not matches:
            return None
        if (stranger := unknown.somebody_elses_order(situation)) is not None:
            return stranger
        if (detail := self._asked_detail(situation)) is not None:
            return detail
        asking = [match for match in matches if match.band is _UNSURE]
        if asking and not situation.held:
            memory = situation.memory
            if memory.offered:
                # Already asked back once, and the answer to that was no pick.
                return unknown.to_human(situation)
            if (handed := self._order_matter(situation, asking)) is not None:
                return handed
            asked = ask_back.ask_back(situation, asking)
            if asked is not None:
                situation.remember(unknown_streak=min(9, memory.unknown_streak + 1))
                return asked
        return unknown.not_understood(situation, social=is_social(situation))

    def _asked_detail(self, situation: Situation) -> Outcome | None:
        """Take a message nobody understood for the detail that an entry has just asked for; None when none has."""
        memory = situation.memory
        if memory.asked_entry is None or memory.order_choices or memory.order_misses or situation.held:
            return None
        entry = situation.turn.snapshot.by_id.get(memory.asked_entry)
        return None if entry is None else faq.answer_entry(situation, entry, self._plans.of(entry), 1.0)

    def _order_matter(self, situation: Situation, asking: Sequence[Match]) -> Outcome | None:
        """Return the handover of a likely matter that ends with a human anyway, or None (E7)."""
        match = max(asking, key=lambda one: one.confidence) if len(asking) > 1 else asking[0]
        if match.confidence < unknown.HANDED_OVER_AT:
            return None
        entry = entry_of(situation, match)
        if entry is None or not self._plans.of(entry).escalates:
            return None
        return unknown.unsure_to_human(situation, entry, match)


def _answers_us(situation: Situation) -> bool:
    """Whether 'yes' may answer a question of ours, so that it isn't mere talk."""
    return bool(situation.memory.offered) and is_affirmation(situation.text)


def _picks_something(situation: Situation, matches: Sequence[Match]) -> bool:
    memory = situation.memory
    if not (memory.offered or memory.order_choices):
        return False
    text = situation.text.strip()
    return len(text) <= 8 and (
        ask_back.picked_entry(situation, ()) is not None
        or (bool(memory.order_choices) and order_choice.picks_by_position(situation))
    )


def _only_suggest(situation: Situation, matches: Sequence[Match], fired: Sequence[Rule]) -> Decision:
    """A human answers here: everything the bot knows becomes suggestions."""
    suggestions = suggest(situation, matches)
    conversation = situation.turn.conversation
    order = situation.known_order() if situation.turn.orders is not None else None
    topics = tuple(
        entry.topic
        for match in matches
        if match.band is Band.ANSWER and (entry := entry_of(situation, match)) is not None
    )
    return Decision(
        kind=DecisionKind.SUGGEST if suggestions else DecisionKind.SILENT,
        memory=situation.memory_after(),
        matches=tuple(matches),
        suggestions=suggestions,
        order_id=situation.remembered("order_id"),
        stage=stage_label(conversation.stage, topics, order),
        log_codes=tuple(situation.logs),
        why=(
            "human" if conversation.state is ConversationState.HUMAN else "paused",
            *(rule.id for rule in fired),
        ),
    )
