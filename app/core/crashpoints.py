"""Named points in the program at which a test has it die, as by kill -9.

Nothing happens at them unless the environment holds both ``HUOJI_CHAOS=1`` and ``HUOJI_CHAOS_CRASH_AT``, a point's
name and how many times it is passed first, such as ``after_inbox_commit:7``. Only the ``huoji`` command looks there, and
never in production. Callers on a hot path look at ``is_armed`` first, once a batch.

Source: the test methods of the reliability notes, number 4.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping

from app.core.errors import ConfigurationError

__all__ = ["POINTS", "CrashPoints", "points"]

POINTS: Mapping[str, str] = {
    "before_inbox_commit": "a webhook's event is written, and not committed",
    "after_inbox_commit": "a webhook's event is stored, and not yet acked",
    "before_turn_commit": "a turn is decided and written, and not committed",
    "after_turn_commit": "a turn is stored, and its reply not yet on its way",
    "before_mark_commit": "a reply was sent, and is not marked so",
    "after_mark_commit": "a reply is marked as sent, and nobody has heard of it",
    "after_claim": "partitions were taken over, and nothing was begun with them",
    "before_release": "partitions were drained for others, and not given up",
    "while_stopping": "new work is refused, and what is under way isn't finished",
    "after_drain": "everything is finished, and the database still open",
    "during_migration": "a revision is applied, and not committed",
}
"""Every point, with what has happened there and what hasn't."""


def _kill_oneself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class CrashPoints:
    """The points of one process."""

    __slots__ = ("_armed", "_die", "_left")

    def __init__(self, die: Callable[[], None] = _kill_oneself) -> None:
        """``die`` ends the process; it needn't return."""
        self._die = die
        self._armed: str | None = None
        self._left = 0

    @property
    def is_armed(self) -> bool:
        """Whether the process is to die somewhere."""
        return self._armed is not None

    def arm(self, environment: Mapping[str, str]) -> None:
        """Look whether the process is to die somewhere, and where.

        Raises:
            ConfigurationError: there is no such point, or the process serves real buyers.
        """
        wanted = environment.get("HUOJI_CHAOS_CRASH_AT")
        if not wanted or environment.get("HUOJI_CHAOS") != "1":
            return
        if environment.get("HUOJI_ENV") == "production":
            raise ConfigurationError("HUOJI_CHAOS_CRASH_AT is for tests, and HUOJI_ENV is production")
        name, _, passes = wanted.partition(":")
        if name not in POINTS or not (passes or "0").isdecimal():
            raise ConfigurationError(
                f"HUOJI_CHAOS_CRASH_AT names no crash point; known are {', '.join(POINTS)}"
            )
        self._armed = name
        self._left = int(passes or "0")

    def reach(self, name: str) -> None:
        """Be at a point: die here, if it is the one and was passed often enough."""
        if self._armed != name:
            return
        if self._left == 0:
            self._die()
        self._left -= 1

    def reach_each(self, names: Iterable[str]) -> None:
        """Be at several points at once."""
        for name in names:
            self.reach(name)


points = CrashPoints()
"""This process's own. Global, because a point may be anywhere, and what is there must not know of it otherwise."""
