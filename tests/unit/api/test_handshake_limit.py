"""How many handshakes are let in, and when the others are told to come again."""

from __future__ import annotations

import heapq

import pytest

from app.api.handshake_limit import LONGEST_SECONDS, HandshakeLimit
from app.api.socket_close import come_again
from app.core.ids import SystemIds
from tests.fakes import FakeClock


@pytest.fixture
def limit(clock: FakeClock) -> HandshakeLimit:
    return HandshakeLimit(clock=clock, ids=SystemIds(clock), per_second=10)


def let_in(limit: HandshakeLimit) -> float | None:
    """One handshake from its beginning to its end."""
    wait = limit.begin()
    if wait is None:
        limit.end()
    return wait


def test_two_seconds_worth_may_begin_at_once_and_then_the_rate(limit: HandshakeLimit, clock: FakeClock):
    assert [let_in(limit) for _ in range(20)] == [None] * 20
    assert let_in(limit) is not None
    clock.advance(0.55)
    assert [let_in(limit) is None for _ in range(6)] == [True] * 5 + [False]


def test_each_who_is_turned_away_is_told_a_moment_of_their_own(limit: HandshakeLimit):
    for _ in range(20):
        let_in(limit)
    waits = [limit.begin() or 0.0 for _ in range(100)]
    assert len(set(waits)) == 100
    assert min(waits) >= 0.5
    assert 12 < max(waits) < 15
    by_second = [sum(second <= wait < second + 1 for wait in waits) for second in range(2, 12)]
    assert max(by_second) <= 20, "no wave comes back together"


def test_a_thousand_who_keep_to_what_they_are_told_are_all_let_in_at_the_rate(clock: FakeClock):
    limit = HandshakeLimit(clock=clock, ids=SystemIds(clock), per_second=100)
    began = clock.monotonic()
    waiting = [(began, number) for number in range(1000)]
    tries = [0] * 1000
    while waiting:
        at, number = heapq.heappop(waiting)
        clock.advance(max(0.0, at - clock.monotonic()))
        tries[number] += 1
        wait = let_in(limit)
        if wait is not None:
            heapq.heappush(waiting, (clock.monotonic() + wait, number))
    assert max(tries) <= 3
    assert sum(tries) < 2 * 1000
    assert 7 < clock.monotonic() - began < 14


def test_no_wait_is_longer_than_the_longest_and_those_are_spread(limit: HandshakeLimit):
    waits = [limit.begin() or 0.0 for _ in range(5000)]
    assert max(waits) <= LONGEST_SECONDS + 1
    late = waits[-1000:]
    assert max(late) - min(late) > LONGEST_SECONDS / 3


def test_handshakes_that_hang_keep_others_out_until_they_end(limit: HandshakeLimit, clock: FakeClock):
    for _ in range(20):
        assert limit.begin() is None
    clock.advance(60)
    assert limit.begin() is not None
    limit.end()
    assert limit.begin() is None


def test_a_restart_spreads_as_many_as_there_are_over_the_time_they_need(limit: HandshakeLimit):
    assert max(limit.restart_wait(3) for _ in range(300)) <= 5
    many = [limit.restart_wait(160) for _ in range(300)]
    assert 15 < max(many) <= 20
    assert min(many) < 5
    assert max(limit.restart_wait(100_000) for _ in range(300)) <= LONGEST_SECONDS


def test_a_reason_tells_the_wait_rounded_up_and_fits_a_close_frame():
    assert come_again("too many at once", 2.41) == "too many at once; retry_in=2.5"
    assert come_again("the server restarts", 0) == "the server restarts; retry_in=0.0"
    assert len(come_again("try again in a moment", 30).encode()) <= 123
