"""Crash points do nothing unless a test asks for it, and never in production."""

from __future__ import annotations

import pytest

from app.core.crashpoints import POINTS, CrashPoints
from app.core.errors import ConfigurationError


def deaths_of(environment: dict[str, str], passes: int) -> list[int]:
    """At which pass of a point a process with this environment dies."""
    passed = 0
    deaths: list[int] = []
    points = CrashPoints(die=lambda: deaths.append(passed))
    points.arm(environment)
    while passed < passes:
        passed += 1
        points.reach_each(["before_inbox_commit", "after_inbox_commit"])
    return deaths[:1]


@pytest.mark.parametrize("point", sorted(POINTS))
def test_every_point_can_be_named(point: str) -> None:
    points = CrashPoints(die=lambda: None)
    points.arm({"HUOJI_CHAOS": "1", "HUOJI_CHAOS_CRASH_AT": point})
    assert points.is_armed


def test_the_process_dies_where_and_when_it_is_told_to() -> None:
    environment = {"HUOJI_CHAOS": "1", "HUOJI_CHAOS_CRASH_AT": "after_inbox_commit:2"}
    assert deaths_of(environment, 10) == [3]
    assert deaths_of({**environment, "HUOJI_CHAOS_CRASH_AT": "after_inbox_commit"}, 10) == [1]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HUOJI_CHAOS_CRASH_AT": "after_inbox_commit"},
        {"HUOJI_CHAOS": "0", "HUOJI_CHAOS_CRASH_AT": "after_inbox_commit"},
        {"HUOJI_CHAOS": "1"},
    ],
)
def test_without_being_asked_twice_nothing_happens(environment: dict[str, str]) -> None:
    assert deaths_of(environment, 10) == []


@pytest.mark.parametrize(
    "environment",
    [
        {"HUOJI_CHAOS_CRASH_AT": "nowhere"},
        {"HUOJI_CHAOS_CRASH_AT": "after_claim:soon"},
        {"HUOJI_CHAOS_CRASH_AT": "after_claim", "HUOJI_ENV": "production"},
    ],
)
def test_what_makes_no_sense_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        CrashPoints().arm({"HUOJI_CHAOS": "1", **environment})
