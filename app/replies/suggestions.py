"""Answers offered to the human who takes over: the likeliest entries, filled in with this buyer's facts."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.knowledge import Entry
from app.domain.matching import Match
from app.domain.turns import Suggestion
from app.replies.handlers.faq import choose_answer, fill_in
from app.replies.situation import Situation
from app.replies.templates import MissingFact
from app.replies.topics import NEVER_OFFERED

__all__ = ["suggest"]

_MOST = 3


def suggest(
    situation: Situation, matches: Sequence[Match], first: Sequence[Entry] = ()
) -> tuple[Suggestion, ...]:
    """Return up to three suggestions, best first; an entry that lacks a fact is left out.

    Args:
        situation: the turn.
        matches: what its questions matched.
        first: entries that come before all others (those that may only be suggested).

    Raises:
        OrdersWanted: an answer needs the order and the orders haven't been looked up.
    """
    scores: dict[str, float] = {}
    for match in matches:
        for candidate in match.ranked:
            score = min(1.0, max(0.0, candidate.score))
            scores[candidate.entry_id] = max(score, scores.get(candidate.entry_id, 0.0))
    ranked = sorted(scores.items(), key=lambda pair: -pair[1])
    wanted = [(entry, scores.get(entry.id, 1.0)) for entry in first]
    wanted += [
        (entry, score)
        for entry_id, score in ranked
        if (entry := situation.turn.snapshot.by_id.get(entry_id)) is not None and entry not in first
    ]
    suggestions: list[Suggestion] = []
    for entry, score in wanted:
        if len(suggestions) == _MOST:
            break
        if entry.topic in NEVER_OFFERED or entry.topic.startswith("esc_"):
            continue
        try:
            saying = fill_in(situation, entry, choose_answer(situation, entry))
        except MissingFact:
            continue
        if saying is not None and saying.text:
            suggestions.append(
                Suggestion(entry_id=entry.id, title=entry.question, text=saying.text, score=round(score, 4))
            )
    return tuple(suggestions)
