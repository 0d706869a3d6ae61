"""What an entry needs before it can answer, worked out once per entry and kept."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.knowledge import AnswerMode, Entry
from app.replies.conditions import entry_asks_about_order
from app.replies.rules import Rule, rule_of_topic
from app.replies.templates import TemplateSet

__all__ = ["EntryPlan", "EntryPlans"]

_LIMIT = 65_536


@dataclass(frozen=True, slots=True)
class EntryPlan:
    """``needs_order``: a condition, ``needs`` or a slot of some answer is about the order. ``rule``: of its topic."""

    needs_order: bool
    rule: Rule | None
    conditional: bool
    escalates: bool
    """Every answer of it ends with a human, so that nothing has to be asked first."""


class EntryPlans:
    """Plans by entry; entries never change, so identity is enough."""

    def __init__(self, templates: TemplateSet) -> None:
        self._templates = templates
        self._plans: dict[int, tuple[Entry, EntryPlan]] = {}

    def of(self, entry: Entry) -> EntryPlan:
        """Return an entry's plan."""
        kept = self._plans.get(id(entry))
        if kept is not None and kept[0] is entry:
            return kept[1]
        plan = self._make(entry)
        if len(self._plans) >= _LIMIT:
            self._plans.clear()
        self._plans[id(entry)] = (entry, plan)
        return plan

    def _make(self, entry: Entry) -> EntryPlan:
        answers = (*entry.answers, entry.default)
        texts = [answer.text for answer in answers if answer.text]
        texts += [localised.answer for localised in entry.texts.values() if localised.answer]
        needs_order = entry_asks_about_order(entry) or any(
            "order" in self._templates.slots(text) for text in texts
        )
        rule = rule_of_topic(entry.topic)
        return EntryPlan(
            needs_order=needs_order,
            rule=rule,
            conditional=bool(entry.answers),
            escalates=all(answer.mode is not AnswerMode.AUTO for answer in answers) or rule is not None,
        )
