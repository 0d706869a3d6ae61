"""Partitions of conversations.

A conversation belongs to one of 64 partitions by a hash of its key. Whoever owns a partition works its lanes and sends
its replies; every write of a lane or sender carries the epoch under which its process took the partition, and is refused
when the partition has gone to somebody else since (``app.storage.leases``).
"""

from __future__ import annotations

import zlib

from app.storage.leases import PARTITIONS, FencedError, current_epochs, take_all

__all__ = ["PARTITIONS", "FencedError", "current_epochs", "partition_of", "take_all"]


def partition_of(account_id: str, lane_key: str) -> int:
    """Return the partition of a lane. Stable over processes, hosts and versions."""
    return zlib.crc32(f"{account_id}\0{lane_key}".encode(errors="surrogatepass")) % PARTITIONS
