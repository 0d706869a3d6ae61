"""Not sure enough to answer: offer the two or three likely questions, and take the buyer's pick.

Source: the domain rules, section 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.domain.knowledge import Entry
from app.domain.matching import Band, Match
from app.replies.fitness import LEAST_OFFERED
from app.replies.lexicon import is_affirmation
from app.replies.orders import ordinal
from app.replies.outcome import Outcome, OutcomeKind, Saying
from app.replies.situation import Situation
from app.replies.topics import NEVER_OFFERED

__all__ = ["ask_back", "picked_entry"]

_MOST = 3
_LEAST_SHARE = 0.4
"""An option is listed only with at least this share of the best one's score: a far-fetched one puts buyers off."""
_LEAST_SCORE = 0.25
_PUNCTUATION = re.compile(r"[\s，,。.!！?？;；:：~～、“”\"'「」]+")


def ask_back(situation: Situation, matches: Sequence[Match]) -> Outcome | None:
    """Return the question back with the likeliest entries of these matches; None when nothing is worth offering.

    Only what is likely enough is offered: a list of things the buyer didn't mean is worse than an open question.
    """
    by_id = situation.turn.snapshot.by_id
    ids: list[str] = []
    offered: list[Entry] = []
    for match in matches:
        best = match.best
        if best is None or best.score < LEAST_OFFERED:
            continue
        least = max(_LEAST_SCORE, _LEAST_SHARE * best.score)
        for candidate in match.ranked:
            if candidate.score < least or candidate.entry_id in ids:
                continue
            entry = by_id.get(candidate.entry_id)
            if entry is not None and _may_be_offered(situation, entry):
                ids.append(entry.id)
                offered.append(entry)
    if not offered:
        return None
    del offered[_MOST:]
    situation.remember(offered=tuple(ids[:_MOST]), order_choices=(), asked_entry=None)
    if len(offered) == 1:
        choice = {"title": _title(situation, offered[0])}
        saying = situation.say("ask_back_one", extra={"choice": choice})
    else:
        lead = situation.say("ask_back")
        text = lead.text
        for position, entry in enumerate(offered, start=1):
            text += f"\n{position}. {_title(situation, entry)}"
        saying = Saying(text, lead.source, lead.node)
    return Outcome(kind=OutcomeKind.ASK, sayings=(saying,), reason="ask_back")


def _may_be_offered(situation: Situation, entry: Entry) -> bool:
    return (
        entry.topic not in NEVER_OFFERED
        and not entry.topic.startswith("esc_")
        and entry.is_in_scope(shop_id=situation.shop.id, channel=situation.channel, now_ms=situation.now_ms)
    )


def _title(situation: Situation, entry: Entry) -> str:
    localised = entry.texts.get(situation.language)
    title = localised.question if localised is not None else entry.question
    # Buyers are addressed with 您, also in the questions put into their mouth.
    return title.replace("你们", "店铺").replace("你", "您") if "你" in title else title


def picked_entry(situation: Situation, matches: Sequence[Match]) -> Entry | None:
    """Return the entry that this message picks from the last ask-back, by number, by yes, or by saying it again."""
    offered = situation.memory.offered
    if not offered:
        return None
    text = situation.text.strip()
    by_id = situation.turn.snapshot.by_id
    position = ordinal(text, len(offered))
    if position is not None:
        return by_id.get(offered[position])
    if len(offered) == 1 and is_affirmation(text):
        return by_id.get(offered[0])
    plain = _PUNCTUATION.sub("", text)
    for entry_id in offered:
        entry = by_id.get(entry_id)
        if (
            entry is not None
            and plain
            and plain
            in (
                _PUNCTUATION.sub("", entry.question),
                _PUNCTUATION.sub("", _title(situation, entry)),
            )
        ):
            return entry
    if len(matches) == 1 and matches[0].band is Band.ASK:
        best = matches[0].best
        if best is not None and best.entry_id in offered:
            return by_id.get(best.entry_id)
    return None
