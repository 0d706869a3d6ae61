"""A shop's settings, as every stage reads them.

Source: the contracts page, section 7, and the figures marked [D] or [S] of the domain brief.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from app.core.values import value

__all__ = ["PRESALE_GROUPS", "HoursSpan", "ShopMode", "ShopPolicy"]

PRESALE_GROUPS = ("presale", "aftersale", "vip", "supervisor")
"""The default groups, which exist from the first migration."""


class ShopMode(StrEnum):
    """What the bot may do in a shop: answer, suggest, decide silently, or nothing."""

    AUTO = "auto"
    SUPERVISED = "supervised"
    SHADOW = "shadow"
    OFF = "off"


@value(frozen=True, slots=True)
class HoursSpan:
    """Part of a day in shop time, in minutes after midnight; ``end`` below ``start`` crosses midnight."""

    start: int
    end: int

    def holds(self, minute: int) -> bool:
        """Whether a minute of the day lies inside."""
        if self.start <= self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return f"{self.start // 60:02d}:{self.start % 60:02d}-{self.end // 60:02d}:{self.end % 60:02d}"


@value(frozen=True, slots=True, kw_only=True)
class ShopPolicy:
    """One shop's settings, parsed and with defaults filled in.

    ``facts`` holds the rest of the shop object (courier, promos, catalogue …), which templates see as ``shop.*``.
    Lengths in seconds unless their name says otherwise; ``answer_at`` and ``ask_at`` None: as fitted. ``welcome`` None: the
    built-in text; empty: none.
    """

    id: str
    name: str
    tz: str = "Asia/Shanghai"
    mode: ShopMode = ShopMode.AUTO
    welcome: str | None = None
    bot_name: str = "小伙计"
    off_hours: str | None = None
    hours: Mapping[str, tuple[HoursSpan, ...]] = field(default_factory=dict[str, tuple[HoursSpan, ...]])
    repeat_guard: bool = True
    loop_guard: int = 12
    burst_quiet: float = 2.5
    burst_max: float = 8.0
    answer_at: float | None = None
    ask_at: float | None = None
    vip_tiers: frozenset[str] = frozenset()
    bulk_qty: int = 10
    return_window_days: int = 7
    quality_window_hours: int = 72
    stale_trace_hours: int = 48
    session_gap_minutes: int = 30
    human_accept_seconds: int = 60
    leader_alert_seconds: int = 180
    language: str = "zh"
    version: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
