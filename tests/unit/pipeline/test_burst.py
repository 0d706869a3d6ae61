"""When a buyer has finished speaking."""

import pytest

from app.pipeline.burst import BurstPart, Due, burst_due

T = 1_000_000


def parts(*offsets: float, complete: tuple[int, ...] = ()) -> list[BurstPart]:
    return [BurstPart(T + round(offset * 1000), index in complete) for index, offset in enumerate(offsets)]


def due(waiting: list[BurstPart], quiet: float = 2.5, longest: float = 8.0) -> Due:
    return burst_due(waiting, quiet=quiet, longest=longest)


def test_a_complete_question_alone_is_due_at_once() -> None:
    assert due(parts(0, complete=(0,))) == Due(1, T)


def test_a_fragment_waits_the_quiet_time() -> None:
    assert due(parts(0)) == Due(1, T + 2500)


def test_each_further_message_extends_the_wait() -> None:
    assert due(parts(0, 2.0)) == Due(2, T + 4500)


def test_the_wait_ends_at_the_longest_time_after_the_first_message() -> None:
    assert due(parts(0, 2, 4, 6, 7.5)) == Due(5, T + 8000)


def test_a_complete_question_behind_a_fragment_waits_with_it() -> None:
    assert due(parts(0, 1.0, complete=(1,))) == Due(2, T + 3500)


def test_messages_further_apart_than_the_quiet_time_are_turns_of_their_own() -> None:
    assert due(parts(0, 10.0)) == Due(1, T + 2500)


def test_a_backlog_is_cut_where_it_would_have_been_cut_when_it_came() -> None:
    assert due(parts(0, 2, 4, 6, 8.5)) == Due(4, T + 8000)


@pytest.mark.parametrize("complete", [(), (0,), (0, 1, 2)])
def test_quiet_zero_takes_each_message_by_itself_also_in_a_backlog(complete: tuple[int, ...]) -> None:
    assert due(parts(0, 0.1, 0.2, complete=complete), quiet=0) == Due(1, T)
