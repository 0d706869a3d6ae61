"""What a turn brought: its questions' matches, the entries they stand for, and what the platform attached."""

from __future__ import annotations

from app.domain.knowledge import Entry
from app.domain.matching import Match
from app.domain.turns import Turn
from app.replies.situation import Situation

__all__ = ["entry_of", "is_social", "matches_of", "note_attachments"]


def matches_of(turn: Turn) -> tuple[Match, ...]:
    """Return the matches of all questions of a turn, in order."""
    if len(turn.utterances) == 1:
        understanding = turn.utterances[0].understanding
        return understanding.questions if understanding is not None else ()
    return tuple(
        match
        for utterance in turn.utterances
        if utterance.understanding is not None
        for match in utterance.understanding.questions
    )


def entry_of(situation: Situation, match: Match) -> Entry | None:
    """Return the best entry of a match, or None when it is gone or isn't meant for this shop and channel now."""
    best = match.best
    entry = situation.turn.snapshot.by_id.get(best.entry_id) if best is not None else None
    if entry is None or not entry.is_in_scope(
        shop_id=situation.shop.id, channel=situation.channel, now_ms=situation.now_ms
    ):
        return None
    return entry


def note_attachments(situation: Situation) -> None:
    """Remember the order and the product that the platform attached; both are trusted."""
    order_id = situation.attached_order_id()
    if order_id is not None and order_id != situation.memory.order_id:
        situation.remember(order_id=order_id)
    product_id = situation.attached_product_id()
    if product_id is not None and product_id != situation.memory.product_id:
        situation.remember(product_id=product_id)


def is_social(situation: Situation) -> bool:
    """Whether all that was said is nothing but greeting, thanks or the like."""
    understandings = [u.understanding for u in situation.turn.utterances if u.understanding is not None]
    return bool(understandings) and all(understanding.social for understanding in understandings)
