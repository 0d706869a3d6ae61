"""Partitions of conversations, and their owner by lease and epoch.

A conversation belongs to one of 64 partitions by a hash of its key. Whoever owns a partition works its lanes; every
commit of a lane carries the epoch under which its process took the partition, and the commit is refused when the lease
has gone to somebody else since. One process owns all of them; taking them over raises every epoch, which fences off
whichever process had them before.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from app.core.errors import UnavailableError
from app.storage.database import upsert
from app.storage.hot import HotQuery
from app.storage.tables import partition_leases

__all__ = ["PARTITIONS", "FencedError", "current_epochs", "partition_of", "take_all"]

PARTITIONS = 64
LEASE_MS = 5_000
"""A lease that isn't renewed for this long may be taken by another process."""

_EPOCHS = (
    select(partition_leases.c.partition, partition_leases.c.epoch)
    .where(partition_leases.c.partition.in_(bindparam("partitions", expanding=True)))
    .order_by(partition_leases.c.partition)
)
_CURRENT_EPOCHS = HotQuery(_EPOCHS, "partitions", postgresql=_EPOCHS.with_for_update(read=True))


class FencedError(UnavailableError):
    """The partition has another owner now; nothing of this commit was written."""

    default_code = "fenced"


def partition_of(account_id: str, lane_key: str) -> int:
    """Return the partition of a lane. Stable over processes, hosts and versions."""
    return zlib.crc32(f"{account_id}\0{lane_key}".encode(errors="surrogatepass")) % PARTITIONS


def take_all(connection: Connection, owner: str, *, now_ms: int) -> dict[int, int]:
    """Take every partition for ``owner`` under a new epoch; return the epochs by partition."""
    before = {row.partition: row.epoch for row in connection.execute(select(partition_leases))}
    epochs = {partition: before.get(partition, 0) + 1 for partition in range(PARTITIONS)}
    statement = upsert(connection, partition_leases)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["partition"],
            set_={
                "epoch": statement.excluded.epoch,
                "owner": statement.excluded.owner,
                "lease_until_ms": statement.excluded.lease_until_ms,
            },
        ),
        [
            {"partition": partition, "epoch": epoch, "owner": owner, "lease_until_ms": now_ms + LEASE_MS}
            for partition, epoch in epochs.items()
        ],
    )
    return epochs


def current_epochs(connection: Connection, partitions: Iterable[int]) -> dict[int, int]:
    """Return the epochs in force, holding them until the transaction ends."""
    return {row[0]: row[1] for row in _CURRENT_EPOCHS.rows(connection, sorted(partitions))}
