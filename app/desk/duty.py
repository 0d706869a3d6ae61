"""Who does what must be done once for the whole desk: offers, their time limits, giving back what agents left behind.

That is a partition's work like any other: whoever owns partition 0 has the duty, and every change made on duty is refused
when the partition has gone to another process since. So there is nothing to elect, and nothing of its own to fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import Connection

from app.storage.leases import FencedError, current_epochs

__all__ = ["DUTY_PARTITION", "Alone", "Duty", "PartitionDuty"]

DUTY_PARTITION = 0


class Duty(Protocol):
    """Whether this process has the duty."""

    @property
    def is_mine(self) -> bool:
        """Whether this process has it, as far as it knows."""
        ...

    def confirm(self, connection: Connection) -> None:
        """Make sure of it inside the transaction that acts on it, until that transaction's end.

        Raises:
            FencedError: another process has it now.
        """
        ...


class Alone:
    """The duty of a process that has nobody beside it."""

    @property
    def is_mine(self) -> bool:
        """Always."""
        return True

    def confirm(self, connection: Connection) -> None:
        """Nobody else could have it."""


class PartitionDuty:
    """The duty as partition 0 has it."""

    def __init__(self, epochs: Mapping[int, int]) -> None:
        """``epochs``: the partitions that this process owns now, and under which epoch; changed by whoever leases."""
        self._epochs = epochs

    @property
    def is_mine(self) -> bool:
        """Whether this process owns the partition."""
        return DUTY_PARTITION in self._epochs

    def confirm(self, connection: Connection) -> None:
        """Compare the epoch with the one in force, and hold it until the transaction ends."""
        mine = self._epochs.get(DUTY_PARTITION)
        if mine is None or current_epochs(connection, (DUTY_PARTITION,)).get(DUTY_PARTITION) != mine:
            raise FencedError("another process routes now")
