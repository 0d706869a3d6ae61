"""Pace guards: the same text again, and too many automatic turns in a minute.

Source: the domain rules, E14, and the contracts page, section 7 (repeat_guard, loop_guard).
"""

from __future__ import annotations

from enum import StrEnum

from app.domain.conversations import RecentText
from app.replies.situation import Situation

__all__ = ["Repeat", "is_looping", "note_automatic", "note_text"]

REPEAT_WINDOW_MS = 120_000
"""Within this time the same text gets no second answer. Source: the domain rules, E14."""

_MINUTE_MS = 60_000
_KEPT = 6
_LONGEST_KEY = 200
_MOST_TURNS = 120


class Repeat(StrEnum):
    """How a text relates to what the buyer wrote before."""

    NEW = "new"
    AGAIN = "again"
    THIRD = "third"


_NEW = Repeat.NEW


def note_text(situation: Situation) -> Repeat:
    """Remember this turn's text and return whether it came before: again within the window, or for the third time."""
    # The text as written: normalising would make one of two order numbers.
    key = situation.text[:_LONGEST_KEY].strip(" \n,，.。!！?？~～").lower()
    if not key:
        return Repeat.NEW
    now = situation.now_ms
    others = situation.memory.recent
    before: RecentText | None = None
    for seen in others:
        if seen.text == key:
            before = seen
    times = 1
    if before is not None:
        times += before.times
        others = tuple(seen for seen in others if seen is not before)
    situation.remember(recent=(*others[-(_KEPT - 1) :], RecentText(key, now, times)))
    if before is None or not situation.shop.repeat_guard:
        return _NEW
    if times >= 3:
        return Repeat.THIRD
    return Repeat.AGAIN if now - before.at_ms <= REPEAT_WINDOW_MS else Repeat.NEW


def is_looping(situation: Situation) -> bool:
    """Whether the bot has taken as many automatic turns in the last minute as the shop allows; 0 allows any number."""
    sent = situation.memory.automatic_ms
    limit = min(situation.shop.loop_guard, _MOST_TURNS) if sent else 0
    if limit <= 0 or len(sent) < limit:
        return False
    since = situation.now_ms - _MINUTE_MS
    return sum(1 for at_ms in sent if at_ms > since) >= limit


def note_automatic(situation: Situation) -> None:
    """Count this turn as an automatic one."""
    limit = min(situation.shop.loop_guard, _MOST_TURNS)
    if limit > 0:
        # One fewer than the limit, so that with this turn there are as many as the guard has to see.
        kept = situation.memory.automatic_ms[-(limit - 1) :] if limit > 1 else ()
        situation.remember(automatic_ms=(*kept, situation.now_ms))
