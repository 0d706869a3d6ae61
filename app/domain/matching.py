"""What the matcher says about an utterance."""

from __future__ import annotations

from enum import StrEnum

from app.core.values import value

__all__ = ["Band", "Candidate", "Match", "Thresholds", "Understanding"]


class Band(StrEnum):
    """What a confidence allows: send the answer, offer the likely questions, or say nothing factual."""

    ANSWER = "answer"
    ASK = "ask"
    UNKNOWN = "unknown"


@value(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Confidences (0–1) from which a match is answered, or asked back about."""

    answer_at: float
    ask_at: float

    def band(self, confidence: float) -> Band:
        """Return the band of a confidence."""
        if confidence >= self.answer_at:
            return Band.ANSWER
        return Band.ASK if confidence >= self.ask_at else Band.UNKNOWN


@value(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An entry that may be meant: its score (0–1, comparable within one match) and the phrasing nearest to it."""

    entry_id: str
    score: float
    variant: str = ""


@value(frozen=True, slots=True, kw_only=True)
class Match:
    """The ranked entries for one question: at most three, best first; empty when nothing came near.

    ``confidence`` is the calibrated probability that the best entry answers it (0 when nothing came near).
    ``text`` is the part of the message that this question stands in, as the buyer wrote it.
    """

    text: str
    ranked: tuple[Candidate, ...]
    confidence: float
    band: Band

    @property
    def best(self) -> Candidate | None:
        """The best candidate, if any."""
        return self.ranked[0] if self.ranked else None


@value(frozen=True, slots=True, kw_only=True)
class Understanding:
    """A message understood: its language and the questions in it, in order.

    ``social`` is True when the message is nothing but greeting, thanks or the like. ``complete`` is True when it can
    stand alone (a burst needn't wait for more). ``micros`` is how long understanding took, in microseconds.
    """

    text: str
    normalised: str
    language: str
    questions: tuple[Match, ...]
    social: bool = False
    complete: bool = True
    micros: int = 0
