"""What a bad line does to the bytes that go one way over it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NONE", "Toxics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxics:
    """The faults of one direction. Everything at its default is a good line."""

    latency: float = 0.0
    """Seconds that every piece is late."""
    jitter: float = 0.0
    """Up to so many seconds more, drawn for each piece; order stays."""
    bytes_per_second: float | None = None
    is_stuck: bool = False
    """Nothing gets through and the connection stays, as when a firewall forgot it. What waits leaves when it ends."""
    slice_bytes: int | None = None
    """Data arrives in pieces of at most this many bytes, each written by itself."""
    slice_pause: float = 0.0
    """Seconds between two such pieces."""
    truncate_after: int | None = None
    """After so many bytes of a connection the line ends in order (FIN), in the middle of whatever it was."""
    reset_after: int | None = None
    """After so many bytes of a connection it is reset (RST), both ways."""
    reset_on_answer_to: bytes | None = None
    """Once this was seen, whole in one piece, what comes back the other way is dropped and the connection reset: the
    server has done what it was asked to, and the client will never know."""
    close_delay: float = 0.0
    """Seconds by which the end of the line is late."""


NONE = Toxics()
"""A good line."""
