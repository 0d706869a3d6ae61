"""Instants in and out of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.clock import from_rfc3339, rfc3339, to_datetime


def test_an_instant_is_written_in_utc_with_milliseconds() -> None:
    assert rfc3339(1_795_248_000_007) == "2026-11-21T08:00:00.007Z"
    assert rfc3339(None) is None


@given(st.integers(min_value=0, max_value=253_402_300_799_999))
def test_what_is_written_is_read_back(at_ms: int) -> None:
    assert from_rfc3339(rfc3339(at_ms) or "") == at_ms
    assert to_datetime(at_ms).isoformat()[:19] == (rfc3339(at_ms) or "")[:19]


@pytest.mark.parametrize("text", ["2026-11-21T08:00:00Z", "2026-11-21T16:00:00+08:00", "2026-11-21T08:00:00"])
def test_offsets_are_honoured_and_none_means_utc(text: str) -> None:
    assert from_rfc3339(text) == 1_795_248_000_000


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are Python's own
        from_rfc3339(text)
