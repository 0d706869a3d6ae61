"""The bargaining ladder: the price stands; then the running promotion or a gift; the third request goes to presale.

Source: the domain rules, section 4.2.
"""

from __future__ import annotations

from dataclasses import replace

from app.replies.lexicon import quantity
from app.replies.outcome import Outcome, OutcomeKind, Saying
from app.replies.situation import Situation
from app.replies.templates import MissingFact

__all__ = ["climb"]

_THIRD = 3


def climb(situation: Situation, outcome: Outcome) -> Outcome:
    """Return what this session's next bargaining request gets: the entry's text, something added, or a human."""
    requests = situation.memory.bargains + 1
    situation.remember(bargains=min(requests, _THIRD))
    bulk = quantity(situation.text) >= situation.shop.bulk_qty
    if requests >= _THIRD or bulk:
        situation.why.append("bulk" if bulk else "bargain:3")
        return replace(
            outcome,
            kind=OutcomeKind.ESCALATE,
            sayings=(situation.say("bargain_human"),),
            reason="bargaining",
            group="presale",
        )
    situation.why.append(f"bargain:{requests}")
    if requests == 2 and (offer := _offer(situation, outcome)) is not None:
        return replace(outcome, sayings=(*outcome.sayings, offer))
    return outcome


def _offer(situation: Situation, outcome: Outcome) -> Saying | None:
    said = "".join(saying.text for saying in outcome.sayings)
    promo = situation.promo()
    if promo is not None and str(promo.get("name")) not in said:
        try:
            return situation.say_strictly("bargain_promo")
        except MissingFact:
            return None
    if promo is None and situation.shop.facts.get("gift_in_bargaining"):
        try:
            return situation.say_strictly("bargain_gift")
        except MissingFact:
            return None
    return None
