"""What a bus is: it carries hints between processes, and may lose every one of them.

The database is the truth, and whoever subscribes also looks there by itself at least once a second. So a bus may be
slow, away or emptied at any time: that costs latency, never a message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["CONVERSATIONS", "EVENTS", "INBOX", "LEASES", "OUTBOX", "QUEUE", "REVISIONS", "Bus", "Heard"]

INBOX = "inbox"
"""Events were stored; payload: their partitions."""

OUTBOX = "outbox"
"""Messages are to leave; payload: their partitions."""

LEASES = "leases"
"""Partitions were taken, given up or are free for the taking."""

EVENTS = "events"
"""Console events were stored."""

QUEUE = "queue"
"""The queue, somebody's status or somebody's load has changed: routing should look."""

CONVERSATIONS = "conversations"
"""Conversations were changed by others than their lane; payload: their ids."""

REVISIONS = "revisions"
"""A revision counter moved: published knowledge, shops, accounts, people."""

Heard = Callable[[str], None]
"""Takes a hint's payload: words with commas between; empty means "anything may have changed, look at everything"."""


class Bus(Protocol):
    """Publishes hints to the other processes, and hears theirs. One's own hints don't come back."""

    def publish(self, topic: str, payload: str = "") -> None:
        """Hint at a change that is already committed. Never blocks, never raises; the hint may be lost.

        Hints of one topic that wait together leave as one: their payloads' words are united, and an empty payload
        takes the others in.
        """
        ...

    def subscribe(self, topic: str, heard: Heard) -> None:
        """Have ``heard`` called, on the event loop, with every hint of a topic. Call before ``start``.

        It is also called with an empty payload whenever hints may have been lost.
        """
        ...

    async def start(self) -> None:
        """Begin; returns at once, whether or not anybody is there."""
        ...

    async def stop(self) -> None:
        """End; what waits leaves if that takes no time, and is dropped otherwise."""
        ...

    def carries(self) -> bool:
        """Whether hints get through to other processes now."""
        ...

    def trouble(self) -> str | None:
        """Say why hints don't get through now; None when they do, or when there is nobody to hint to."""
        ...
