"""Times as people write them in files: ``48h``, ``08:30-01:00``, ``2026-11-10``."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

__all__ = [
    "DEFAULT_TZ",
    "format_duration",
    "format_minute",
    "format_span",
    "parse_duration",
    "parse_instant",
    "parse_minute",
    "parse_span",
]

DEFAULT_TZ = "Asia/Shanghai"
"""Zone of a date in a knowledge file that names none. Source: the contracts page, section 7 (`tz`)."""

_MINUTE = re.compile(r"([0-9]{1,2}):([0-9]{2})")
_DURATION = re.compile(r"([0-9]{1,9}) ?([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_minute(text: str) -> int:
    """Read ``HH:MM`` as minutes after midnight, 0 to 1440 (``24:00``). Raises ValueError with what is wrong."""
    found = _MINUTE.fullmatch(text.strip().replace("：", ":"))
    if found is None:
        raise ValueError(f"{text!r} is no time of day; write it like 08:30")
    hour, minute = int(found[1]), int(found[2])
    if hour > 24 or minute > 59 or (hour == 24 and minute):
        raise ValueError(f"{text!r} is no time of day; the last one is 24:00")
    return hour * 60 + minute


def parse_span(text: str) -> tuple[int, int]:
    """Read ``08:30-01:00`` as (from, to) in minutes after midnight; ``to`` below ``from`` crosses midnight.

    Raises:
        ValueError: no such span, or an empty one.
    """
    parts = re.split(r"\s*[-–—~～]\s*", text.strip())
    if len(parts) != 2:
        raise ValueError(f"{text!r} is no span of a day; write it like 08:30-18:00")
    start, end = (parse_minute(part) for part in parts)
    if start == 1440:
        raise ValueError(f"{text!r} starts at 24:00; write 00:00")
    if start == end:
        raise ValueError(f"{text!r} starts where it ends; the whole day is 00:00-24:00")
    # Midnight as an end is the end of the same day, written either way.
    return start, end or 1440


def format_minute(minute: int) -> str:
    """Write minutes after midnight as ``HH:MM``."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def format_span(span: tuple[int, int]) -> str:
    """Write (from, to) as ``parse_span`` reads it."""
    return f"{format_minute(span[0])}-{format_minute(span[1])}"


def parse_duration(text: str) -> int:
    """Read ``48h``, ``30m``, ``2d`` or ``90s`` as seconds. Raises ValueError for anything else, or nothing."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise ValueError(f"{text!r} is no length of time; write it like 48h, 30m or 2d")
    return int(found[1]) * _SECONDS[found[2]]


def format_duration(seconds: int) -> str:
    """Write seconds in the largest unit that divides them: hours before days, since traces age in hours."""
    for unit in ("h", "m"):
        if seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def parse_instant(text: str, *, tz: tzinfo | None = None, end_of_day: bool = False) -> int:
    """Read a date or an RFC 3339 time as milliseconds UTC.

    Args:
        text: ``2026-11-10``, ``2026-11-10T08:00`` or ``2026-11-10T08:00:00+08:00``.
        tz: zone of a text that names no offset; default ``DEFAULT_TZ``.
        end_of_day: whether a bare date means the end of that day (the midnight after it) instead of its start.

    Raises:
        ValueError: no such instant, or one before 1970.
    """
    text = text.strip()
    zone = tz or ZoneInfo(DEFAULT_TZ)
    try:
        if _DATE.fullmatch(text):
            day = datetime.fromisoformat(text).date() + timedelta(days=1 if end_of_day else 0)
            moment = datetime.combine(day, time(), tzinfo=zone)
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=zone)
        at_ms = round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no date; write it like 2026-11-10 or 2026-11-10T08:00:00+08:00"
        ) from None
    if at_ms < 0:
        raise ValueError(f"{text!r} lies before 1970")
    return at_ms
