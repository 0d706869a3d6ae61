"""Times as people write them."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.knowledge.times import (
    format_duration,
    format_span,
    parse_duration,
    parse_instant,
    parse_minute,
    parse_span,
)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("08:30-18:00", (510, 1080)),
        ("8:30 - 18:00", (510, 1080)),
        ("22:00-06:00", (1320, 360)),
        ("00:00-24:00", (0, 1440)),
        ("18:00-00:00", (1080, 1440)),
        ("08：30～18：00", (510, 1080)),
    ],
)
def test_a_span_is_read(text: str, span: tuple[int, int]) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize(
    "text", ["", "08:30", "08:30-", "08:60-09:00", "24:01-09:00", "24:00-09:00", "a-b", "1-2-3"]
)
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like|time of day|write 00:00"):
        parse_span(text)


@given(st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda span: span[0] != span[1]))
def test_a_span_survives_being_written(span: tuple[int, int]) -> None:
    assert parse_span(format_span(span)) == span


@given(st.integers(1, 999_999))
def test_a_length_survives_being_written(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "48", "0h", "-1h", "1.5h", "two days", "1w"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 48h"):
        parse_duration(text)


def test_an_offset_in_the_text_wins_over_the_zone() -> None:
    new_york = ZoneInfo("America/New_York")
    assert parse_instant("2026-11-21T08:00:00Z", tz=new_york) == 1_795_248_000_000
    assert parse_instant("2026-11-21T08:00:00+08:00") == parse_instant("2026-11-21T08:00")
    assert parse_instant("2026-11-21", tz=new_york) - parse_instant("2026-11-21") == 13 * 3600 * 1000


def test_the_end_of_a_day_is_the_next_midnight_also_where_clocks_change() -> None:
    zone = ZoneInfo("America/New_York")
    day = parse_instant("2026-11-01", tz=zone, end_of_day=True) - parse_instant("2026-11-01", tz=zone)
    assert day == 25 * 3600 * 1000


@pytest.mark.parametrize("text", ["", "soon", "2026-02-30", "1969-12-31", "9999-12-31", "20261121T99"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no date|before 1970"):
        parse_instant(text, end_of_day=True)


def test_a_time_of_day_is_read_as_minutes() -> None:
    assert [parse_minute(text) for text in ("00:00", "9:05", "24:00")] == [0, 545, 1440]
