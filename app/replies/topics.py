"""Which topics (intent ids of the knowledge outline) rules and handlers hang on.

An entry's topic is its own id unless it says otherwise; a topic that stands nowhere here has no handler.
Source: the knowledge outline (modes, policies) and the domain rules, E1–E19.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = [
    "ADVERTISING_TOPICS",
    "AFTERSALE_PREFIXES",
    "BARGAIN_TOPICS",
    "COMPLAINT_TOPICS",
    "FAULT_TOPICS",
    "GREETING_TOPICS",
    "HEALTH_TOPICS",
    "MONEY_TOPICS",
    "NEVER_OFFERED",
    "ORDER_CHANGE_TOPICS",
    "PARCEL_TOPICS",
    "REFUND_TOPICS",
    "SHIP_TOPICS",
    "SOCIAL_TOPICS",
    "stage_after",
]

GREETING_TOPICS = frozenset({"greet_hello", "greet_anyone"})
SOCIAL_TOPICS = GREETING_TOPICS | {"close_thanks", "close_no_more", "close_bye", "small_talk", "emoji_only"}
BARGAIN_TOPICS = frozenset({"price_bargain", "price_round_off", "price_competitor"})
PARCEL_TOPICS = frozenset({"log_track", "ship_tracking_no", "log_not_home"})
"""Answered from the last trace of the parcel."""
SHIP_TOPICS = frozenset({"ship_when", "ship_urge", "stock_presale"})
"""Answered with the promised shipping time; past it, E17."""
REFUND_TOPICS = frozenset({"as_refund_progress"})

MONEY_TOPICS = frozenset(
    {"as_refund_only", "as_unshipped_refund", "as_compensation", "as_price_diff", "log_delayed_claim"}
)
"""E5: somebody has to decide about money."""
ORDER_CHANGE_TOPICS = frozenset(
    {"chg_address", "chg_receiver", "chg_spec", "chg_qty", "chg_cancel", "addr_no", "order_merge"}
)
"""E6."""
HEALTH_TOPICS = frozenset({"prod_special_people"})
"""E15."""
FAULT_TOPICS = frozenset(
    {
        "as_return_quality",
        "as_exchange_quality",
        "as_wrong_item",
        "as_missing_item",
        "as_damaged_signed",
        "as_not_as_described",
        "log_damaged_unsigned",
        "log_signed_missing",
        "log_lost",
        "log_wrong_recipient",
    }
)
"""E18: quality fault, wrong or missing item, damage, lost parcel."""
COMPLAINT_TOPICS = frozenset({"cmp_service", "cmp_quality", "cmp_delay", "cmp_platform", "rev_bad_given"})
"""E19."""
ADVERTISING_TOPICS = frozenset({"cmp_false_ad", "rev_followup"})
"""E19 for the supervisor: promised advertising not kept, unwanted calls about reviews."""

AFTERSALE_PREFIXES = ("as_", "cmp_", "rev_")
"""Families that go to aftersale whatever the order says."""

NEVER_OFFERED = SOCIAL_TOPICS | {
    "unknown",
    "addr_yes",
    "addr_no",
    "media_image",
    "media_voice",
    "media_video",
}
"""Not worth a line in 'did you mean'."""

_STAGES = (
    ("price_", "bargaining"),
    ("order_", "order_guidance"),
    ("pay_", "payment"),
    ("addr_", "address_confirm"),
    ("chg_", "address_confirm"),
    ("ship_", "courier_choice"),
    ("log_", "aftersales"),
    ("as_", "aftersales"),
    ("cmp_", "aftersales"),
    ("rev_", "aftersales"),
    ("close_", "farewell"),
)


@lru_cache(maxsize=4096)
def stage_after(topic: str) -> str | None:
    """Return the conversation stage a topic leads to, or None when it leads nowhere new.

    Source: the domain rules, section 3 (stage machine).
    """
    for prefix, stage in _STAGES:
        if topic.startswith(prefix):
            return stage
    return None
