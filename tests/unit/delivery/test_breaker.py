"""The circuit breaker of an account."""

from app.delivery.breaker import Breaker


def failing(times: int, breaker: Breaker, now: float = 0.0) -> list[bool]:
    return [breaker.failed(now) for _ in range(times)]


def test_it_stays_closed_below_the_threshold() -> None:
    breaker = Breaker()
    assert failing(4, breaker) == [False] * 4
    assert not breaker.is_open
    assert breaker.wait_seconds(0.0) == 0


def test_the_fifth_failure_in_a_row_opens_it_and_says_so_once() -> None:
    breaker = Breaker()
    assert failing(6, breaker) == [False, False, False, False, True, False]
    assert breaker.is_open


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    failing(4, breaker)
    breaker.succeeded()
    assert failing(4, breaker) == [False] * 4


def test_while_open_it_names_the_time_to_wait() -> None:
    breaker = Breaker(first_wait=10)
    failing(5, breaker, now=100)
    assert breaker.wait_seconds(103) == 7


def test_after_its_time_exactly_one_message_may_try() -> None:
    breaker = Breaker(first_wait=10)
    failing(5, breaker)
    assert breaker.wait_seconds(10) == 0
    assert breaker.wait_seconds(10) > 0


def test_a_failed_try_doubles_the_wait_up_to_the_longest() -> None:
    breaker = Breaker(first_wait=10, longest_wait=25)
    failing(5, breaker)
    now = 10.0
    waits: list[float] = []
    for _ in range(3):
        assert breaker.wait_seconds(now) == 0
        breaker.failed(now)
        waits.append(breaker.wait_seconds(now))
        now += waits[-1]
    assert waits == [20, 25, 25]


def test_a_good_try_closes_it_and_says_so_once() -> None:
    breaker = Breaker(first_wait=1)
    failing(5, breaker)
    breaker.wait_seconds(1)
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.wait_seconds(1) == 0
