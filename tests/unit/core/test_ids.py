"""Time-sortable ids."""

from datetime import timedelta

from app.core.ids import SystemIds, id_at
from tests.fakes import FakeClock


def test_ids_rise_strictly_also_when_the_clock_stands_still_or_goes_back() -> None:
    clock = FakeClock()
    ids = SystemIds(clock, node=7)
    made = [ids.next() for _ in range(10_000)]
    clock.set_wall(clock.now() - timedelta(hours=1))
    made += [ids.next() for _ in range(100)]
    assert made == sorted(set(made))


def test_two_processes_never_make_the_same_id() -> None:
    clock = FakeClock()
    one, other = SystemIds(clock, node=1), SystemIds(clock, node=2)
    assert not {one.next() for _ in range(5000)} & {other.next() for _ in range(5000)}


def test_a_later_millisecond_gives_greater_ids_whatever_the_process() -> None:
    clock = FakeClock()
    high = SystemIds(clock, node=1023)
    before = high.next()
    clock.advance(0.001)
    assert SystemIds(clock, node=0).next() > before
    assert id_at(clock.now_ms()) <= SystemIds(clock, node=0).next()


def test_ids_fit_into_63_bits_until_2093() -> None:
    clock = FakeClock()
    clock.set_wall(clock.now().replace(year=2093, month=1))
    assert 0 < SystemIds(clock, node=1023).next() < 2**63


def test_after_raising_the_floor_every_id_exceeds_it() -> None:
    ids = SystemIds(FakeClock(), node=3)
    floor = ids.next() + (10**6 << 22)
    ids.raise_floor(floor)
    assert ids.next() > floor


def test_tokens_differ_and_have_the_size_asked_for() -> None:
    ids = SystemIds(FakeClock())
    assert ids.token() != ids.token()
    assert len(ids.token(32)) == 43
    assert 0 <= ids.fraction() < 1
