"""Places for so many at once: waiting is short in a line that stands still, and nobody's place is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from app.storage.places import PATIENT_SECONDS, STANDSTILL_SECONDS, Places
from tests.waiting import eventually, pause


def line_up(places: Places, number: int, *, patient: bool = False) -> list[asyncio.Task[bool]]:
    """Have so many wait for a place."""
    return [asyncio.ensure_future(places.take(patient=patient)) for _ in range(number)]


async def test_in_a_line_that_stands_still_nobody_waits_long() -> None:
    places = Places(2)
    assert await places.take()
    assert await places.take()
    began = asyncio.get_running_loop().time()
    assert await asyncio.gather(*line_up(places, 5)) == [False] * 5
    assert STANDSTILL_SECONDS * 0.9 < asyncio.get_running_loop().time() - began < PATIENT_SECONDS


async def test_in_a_line_that_moves_people_wait_on() -> None:
    places = Places(1)
    assert await places.take()
    waiting = line_up(places, 8)
    for place in waiting:
        await pause(STANDSTILL_SECONDS / 4)
        places.give_back()
        assert await place
    places.give_back()
    assert places.take_now()


async def test_our_own_work_waits_on_and_both_lines_are_served_in_turn() -> None:
    places = Places(1)
    assert await places.take()
    own = line_up(places, 3, patient=True)
    assert await asyncio.gather(*line_up(places, 2)) == [False, False]
    assert not any(one.done() for one in own)
    people = line_up(places, 3)
    await pause(0)
    served: list[str] = []
    for _ in range(6):
        places.give_back()
        taken = await eventually(lambda: [one for one in (*own, *people) if one.done()], what="a place")
        for one in taken:
            served.append("own" if one in own else "people")
            (own if one in own else people).remove(one)
    assert served in (["own", "people"] * 3, ["people", "own"] * 3)


async def test_a_place_given_to_somebody_who_has_just_left_goes_to_the_next() -> None:
    places = Places(1)
    assert await places.take()
    gone, left, last = line_up(places, 3)
    await pause(0)
    gone.cancel()
    await pause(0)
    places.give_back()
    left.cancel()
    assert await last
    for one in (gone, left):
        with suppress(asyncio.CancelledError):
            assert not await one
