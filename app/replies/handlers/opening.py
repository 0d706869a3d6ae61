"""Node texts around an answer: the welcome before the first one, the working hours when nobody is on duty.

Source: the domain rules, section 3 (welcome) and section 9 (nodes).
"""

from __future__ import annotations

from app.replies import shopfacts
from app.replies.outcome import Saying
from app.replies.situation import Situation
from app.replies.templates import MissingFact

__all__ = ["off_duty", "welcome"]


def welcome(situation: Situation, *, greets: bool) -> Saying | None:
    """Return the welcome text, or None where there is none.

    Args:
        situation: the turn.
        greets: the answer itself is a greeting; then only a welcome that the shop wrote itself is put before it.
    """
    own = situation.shop.welcome
    if own is not None and not own.strip():
        return None
    try:
        if own is not None and (situation.language == "zh" or own.isascii()):
            saying = Saying(situation.render(own), own, "welcome")
        elif greets:
            return None
        else:
            saying = situation.say_strictly("welcome")
    except MissingFact:
        return None
    held = situation.guard.held(saying.source, saying.text)
    if held is not None:
        situation.why.append(f"guard:welcome:{held}")
        return None
    return saying


def off_duty(situation: Situation, group: str, sayings: list[Saying]) -> list[Saying]:
    """Return an escalation's texts, with the working hours when its group has closed; told once a day.

    Texts that only say 'a colleague is coming' are left out then: nobody comes.
    """
    shop, now_ms = situation.shop, situation.now_ms
    if shopfacts.is_on_duty(shop, group, now_ms):
        return sayings
    situation.why.append("off_hours")
    kept = [saying for saying in sayings if not saying.generic]
    told = situation.memory.off_hours_told_ms
    if (
        told is not None
        and shopfacts.local_time(shop, told).date() == shopfacts.local_time(shop, now_ms).date()
    ):
        return kept
    situation.remember(off_hours_told_ms=now_ms)
    return [*kept, _hours(situation, group)]


def _hours(situation: Situation, group: str) -> Saying:
    shop = situation.shop
    own = shop.off_hours
    if own and own.strip() and (situation.language == "zh" or own.isascii()):
        try:
            saying = Saying(situation.render(own), own, "off_hours")
        except MissingFact:
            saying = None
        if saying is not None and situation.guard.held(saying.source, saying.text) is None:
            return saying
    others_on_duty = any(
        shopfacts.is_on_duty(shop, other, situation.now_ms)
        for other in ("presale", "aftersale")
        if other != group
    )
    hours = "、".join(str(span) for span in shop.hours.get(group, ()))
    slots = shopfacts.shop_slots(shop, situation.language, hours)
    return situation.say("group_closed" if others_on_duty else "off_hours", extra={"shop": slots})
