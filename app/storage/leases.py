"""Who works which partition, as PostgreSQL keeps it: the processes that live, their leases, the partitions they hold.

A process's lease is one row that it renews; its partitions are its own as long as that row is there. To take what a
dead process held, its row is deleted first, which is the one place where a late renewal and a take-over meet: whichever
the database does first wins, and the other finds that it has lost. Epochs rise with every change of hands, and every
write of a lane names the epoch that it was begun under.

All times are the database's own. Every statement is to be a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, BigInteger, Connection, Integer, SmallInteger, Text, bindparam, select, text
from sqlalchemy.exc import IntegrityError

from app.core.errors import UnavailableError
from app.storage import schema
from app.storage.database import upsert
from app.storage.hot import HotQuery
from app.storage.tables import partition_leases

__all__ = [
    "PARTITIONS",
    "FencedError",
    "Holding",
    "ProcessRow",
    "bury_expired",
    "claim",
    "current_epochs",
    "cut_off",
    "free_orphans",
    "leave",
    "mark_leaving",
    "read_holdings",
    "read_processes",
    "register",
    "release",
    "renew",
    "require_living",
    "shares",
    "take_all",
]

PARTITIONS = 64

_NODES = 1024
"""Numbers of processes that fit into an id."""

_EPOCHS = (
    select(partition_leases.c.partition, partition_leases.c.epoch)
    .where(partition_leases.c.partition.in_(bindparam("partitions", expanding=True)))
    .order_by(partition_leases.c.partition)
)
_CURRENT_EPOCHS = HotQuery(_EPOCHS, "partitions", postgresql=_EPOCHS.with_for_update(read=True))


class FencedError(UnavailableError):
    """The partition has another owner now; nothing of this commit was written."""

    default_code = "fenced"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """One process. ``remaining_ms``: how long its lease still lasts, negative when it has run out."""

    id: str
    joined: int
    node: int
    host: str
    pid: int
    place: str
    version: str
    state: str
    started_at_ms: int
    remaining_ms: int
    knows: int

    @property
    def is_active(self) -> bool:
        """Whether it takes part in the sharing (one that is leaving doesn't)."""
        return self.state == "active"


@dataclass(frozen=True, slots=True)
class Holding:
    """A partition's owner (a process's id; empty: free) and its epoch."""

    owner: str
    epoch: int


def take_all(connection: Connection, owner: str, *, now_ms: int) -> dict[int, int]:
    """Take every partition of an embedded database under a new epoch; return the epochs by partition."""
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
            {"partition": partition, "epoch": epoch, "owner": owner, "lease_until_ms": now_ms}
            for partition, epoch in epochs.items()
        ],
    )
    return epochs


def current_epochs(connection: Connection, partitions: Iterable[int]) -> dict[int, int]:
    """Return the epochs in force, holding them until the transaction ends."""
    return {row[0]: row[1] for row in _CURRENT_EPOCHS.rows(connection, sorted(partitions))}


def register(
    connection: Connection, process_id: str, *, host: str, pid: int, place: str, version: str, lease_ms: int
) -> tuple[int, int]:
    """Add a process; return its place in the order of coming, and a node number that no other process has.

    ``process_id`` must never have been used before. Adds the partitions when there are none yet.
    """
    connection.execute(
        text(
            "INSERT INTO partition_leases (partition, epoch, owner, lease_until_ms)"
            " SELECT n, 0, '', 0 FROM generate_series(0, :last) AS n ON CONFLICT DO NOTHING"
        ).bindparams(bindparam("last", type_=Integer)),
        {"last": PARTITIONS - 1},
    )
    statement = text(
        "INSERT INTO processes"
        " (id, joined, node, host, pid, place, version, revision, state, started_at_ms, lease_until_ms, knows)"
        " SELECT :id, -nextval('processes_joined_seq'),"
        " (SELECT n FROM generate_series(0, :last_node) AS n"
        " WHERE NOT EXISTS (SELECT 1 FROM processes AS p WHERE p.node = n) ORDER BY random() LIMIT 1),"
        " :host, :pid, :place, :version, :revision, 'active', (extract(epoch FROM clock_timestamp()) * 1000)::bigint,"
        " (extract(epoch FROM clock_timestamp()) * 1000)::bigint + :lease_ms, 0 RETURNING node"
    ).bindparams(bindparam("lease_ms", type_=BigInteger), bindparam("last_node", type_=Integer))
    values = {
        "id": process_id, "host": host, "pid": pid, "place": place, "version": version, "lease_ms": lease_ms,
        "last_node": _NODES - 1, "revision": schema.HEAD,
    }  # fmt: skip
    while True:
        try:
            node = connection.execute(statement, values).scalar_one()
        except IntegrityError:
            # Another process took the same node number at the same moment; with others left there is one for each.
            connection.rollback()
            continue
        # Drawn when its row is there to be seen: so whoever comes later sees it, and whoever has seen one that came
        # later has seen it too.
        number = text(
            "UPDATE processes SET joined = nextval('processes_joined_seq') WHERE id = :id RETURNING joined"
        )
        return connection.execute(number, {"id": process_id}).scalar_one(), node


def read_holdings(connection: Connection) -> dict[int, Holding]:
    """Return who holds what. Read before the processes: an owner that is missing there is then gone for good."""
    rows = connection.execute(text("SELECT partition, owner, epoch FROM partition_leases"))
    return {row[0]: Holding(row[1], row[2]) for row in rows}


def read_processes(connection: Connection) -> list[ProcessRow]:
    """Return every process, in the order they came; those whose lease has run out, too."""
    rows = connection.execute(
        text(
            "SELECT id, joined, node, host, pid, place, version, state, started_at_ms,"
            " lease_until_ms - (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS remaining_ms, knows"
            " FROM processes ORDER BY joined"
        )
    ).mappings()
    return [ProcessRow(**row) for row in rows]


def renew(connection: Connection, process_id: str, *, knows: int, lease_ms: int) -> bool:
    """Renew a process's lease; False when it was declared dead meanwhile. ``knows``: the last one it has heard of."""
    statement = text(
        "UPDATE processes SET knows = :knows,"
        " lease_until_ms = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + :lease_ms WHERE id = :id"
    ).bindparams(bindparam("lease_ms", type_=BigInteger))
    return bool(
        connection.execute(statement, {"id": process_id, "knows": knows, "lease_ms": lease_ms}).rowcount
    )


def require_living(connection: Connection, process_id: str | None) -> None:
    """Make sure that the others don't take this process for dead until the transaction ends.

    Whoever is alone needn't look for what others write, so nothing may be written behind its back.

    Raises:
        UnavailableError: they do.
    """
    statement = text("SELECT 1 FROM processes WHERE id = :id FOR KEY SHARE")
    if process_id is None or connection.execute(statement, {"id": process_id}).first() is None:
        raise cut_off()


def cut_off() -> UnavailableError:
    """Return the error for whoever asks a process that the others don't know of."""
    return UnavailableError("this process is cut off from the others; try again", retry_after=1)


def bury_expired(connection: Connection, *, dead: Sequence[str] = ()) -> list[str]:
    """Delete every process whose lease has run out, and those known to be ``dead``; return the ids of those that this
    call deleted."""
    statement = text(
        "DELETE FROM processes WHERE id = ANY(:dead)"
        " OR lease_until_ms < (extract(epoch FROM clock_timestamp()) * 1000)::bigint RETURNING id"
    ).bindparams(bindparam("dead", type_=ARRAY(Text)))
    return list(connection.execute(statement, {"dead": list(dead)}).scalars())


def free_orphans(connection: Connection, owners: Iterable[str]) -> int:
    """Free the partitions of processes that are gone for good; return how many."""
    statement = text(
        "UPDATE partition_leases SET owner = '' WHERE owner <> '' AND owner = ANY(:owners)"
    ).bindparams(bindparam("owners", type_=ARRAY(Text)))
    return connection.execute(statement, {"owners": sorted(owners)}).rowcount


def claim(connection: Connection, process_id: str, *, limit: int) -> dict[int, int]:
    """Take up to ``limit`` free partitions under new epochs; return the epochs by partition.

    Nothing is taken by a process that was declared dead, and no partition by two.
    """
    rows = connection.execute(
        text(
            "WITH me AS (SELECT id FROM processes WHERE id = :id AND state = 'active' FOR KEY SHARE),"
            " free AS (SELECT partition FROM partition_leases WHERE owner = ''"
            " ORDER BY partition LIMIT :limit FOR UPDATE SKIP LOCKED)"
            " UPDATE partition_leases AS held SET owner = me.id, epoch = held.epoch + 1"
            " FROM me, free WHERE held.partition = free.partition RETURNING held.partition, held.epoch"
        ).bindparams(bindparam("limit", type_=BigInteger)),
        {"id": process_id, "limit": limit},
    )
    return {row[0]: row[1] for row in rows}


def release(connection: Connection, process_id: str, epochs: Mapping[int, int]) -> int:
    """Give back partitions, each held under the epoch given; return how many were still this process's."""
    statement = text(
        "UPDATE partition_leases AS held SET owner = ''"
        " FROM unnest(:partitions, :epochs) AS given (partition, epoch)"
        " WHERE held.owner = :id AND held.partition = given.partition AND held.epoch = given.epoch"
    ).bindparams(
        bindparam("partitions", type_=ARRAY(SmallInteger)), bindparam("epochs", type_=ARRAY(BigInteger))
    )
    values = {"id": process_id, "partitions": list(epochs), "epochs": list(epochs.values())}
    return connection.execute(statement, values).rowcount


def mark_leaving(connection: Connection, process_id: str) -> None:
    """Say that a process is about to go, so that the others share without it."""
    connection.execute(text("UPDATE processes SET state = 'leaving' WHERE id = :id"), {"id": process_id})


def leave(connection: Connection, process_id: str) -> None:
    """Give back whatever a process still holds, and remove it."""
    connection.execute(text("UPDATE partition_leases SET owner = '' WHERE owner = :id"), {"id": process_id})
    connection.execute(text("DELETE FROM processes WHERE id = :id"), {"id": process_id})


def shares(holdings: Mapping[int, Holding]) -> dict[str, int]:
    """Return how many partitions each owner holds; under an empty name how many are free."""
    counted: dict[str, int] = {}
    for holding in holdings.values():
        counted[holding.owner] = counted.get(holding.owner, 0) + 1
    return counted
