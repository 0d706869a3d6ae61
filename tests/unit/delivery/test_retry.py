"""The retry schedule."""

import pytest

from app.delivery.retry import delay_seconds


def test_the_wait_doubles_up_to_five_minutes() -> None:
    waits = [delay_seconds(attempts, fraction=1.0) for attempts in range(1, 12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_jitter_takes_away_at_most_three_quarters() -> None:
    assert delay_seconds(3, fraction=0.0) == pytest.approx(1.0)


def test_what_the_peer_asked_for_is_never_undercut() -> None:
    assert delay_seconds(1, fraction=0.0, retry_after=30) == 30
    assert delay_seconds(1, fraction=0.5, retry_after=30) == pytest.approx(31.5)


def test_a_peer_may_not_ask_for_more_than_an_hour() -> None:
    assert delay_seconds(1, fraction=0.0, retry_after=10**9) == 3600


def test_a_thousandth_failure_does_not_overflow() -> None:
    assert delay_seconds(1000, fraction=1.0) == 300
