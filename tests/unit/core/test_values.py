"""Values: what the type checker freezes, and copies with changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.core.values import changed, value


@value(frozen=True, slots=True, kw_only=True)
class Place:
    name: str
    floor: int = 0
    tags: tuple[str, ...] = ()


def test_values_compare_and_hash_by_their_fields() -> None:
    assert Place(name="a") == Place(name="a")
    assert len({Place(name="a"), Place(name="a"), Place(name="b")}) == 2


def test_a_changed_copy_is_what_replace_makes() -> None:
    place = Place(name="a", floor=2, tags=("x",))

    assert changed(place, floor=3) == replace(place, floor=3)
    assert place.floor == 2


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError):
        changed(Place(name="a"), colour="red")
