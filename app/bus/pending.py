"""Hints that wait to leave: one a topic, with the words of all that were united in it."""

from __future__ import annotations

__all__ = ["PendingHints"]

MAX_WORDS = 256
"""Words a hint names at most; with more it says "look at everything", which is shorter and quicker to act upon."""


class PendingHints:
    """A buffer whose size is bounded by the number of topics, however long nobody takes from it."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[str, None] | None] = {}
        # None: everything of that topic.

    def add(self, topic: str, payload: str) -> None:
        """Unite a hint with those of its topic that wait."""
        words = self._topics.get(topic, {})
        if not payload or words is None:
            self._topics[topic] = None
            return
        words.update(dict.fromkeys(payload.split(",")))
        self._topics[topic] = words if len(words) <= MAX_WORDS else None

    def take(self) -> dict[str, str]:
        """Return payloads by topic, and begin anew."""
        taken = {topic: ",".join(words or ()) for topic, words in self._topics.items()}
        self._topics = {}
        return taken
