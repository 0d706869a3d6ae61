"""Which agents have an open socket, at whichever process: one row for each agent and process.

A row is as good as the process that wrote it. The rows of a process that died are found by its not being among the
living, so that nobody has to renew anything, and no clocks are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from sqlalchemy import Connection, delete, select

from app.storage.database import upsert
from app.storage.tables import agent_connections, processes

__all__ = [
    "LivingProcesses",
    "bury_connections",
    "connect",
    "connected_agents",
    "disconnect",
    "living_processes",
]

LivingProcesses = Callable[[Connection], Collection[str]]
"""Gives the ids of the processes that live."""


def living_processes(connection: Connection) -> Collection[str]:
    """Return the processes that live, by PostgreSQL's table of them: a dead one's row is removed."""
    return set(connection.execute(select(processes.c.id)).scalars())


def connect(connection: Connection, agent_ids: Iterable[int], process: str, *, now_ms: int) -> None:
    """Note that agents have sockets at a process; again is the same."""
    rows = [{"agent_id": one, "process": process, "since_ms": now_ms} for one in agent_ids]
    if rows:
        statement = upsert(connection, agent_connections)
        connection.execute(statement.on_conflict_do_nothing(index_elements=["agent_id", "process"]), rows)


def disconnect(connection: Connection, agent_id: int, process: str) -> None:
    """Note that an agent's last socket at a process has closed."""
    connection.execute(
        delete(agent_connections).where(
            agent_connections.c.agent_id == agent_id, agent_connections.c.process == process
        )
    )


def connected_agents(connection: Connection, living: Collection[str]) -> set[int]:
    """Return the agents who have a socket at a living process."""
    rows = connection.execute(select(agent_connections.c.agent_id, agent_connections.c.process))
    return {row.agent_id for row in rows if row.process in living}


def bury_connections(connection: Connection, living: Collection[str]) -> set[int]:
    """Remove the rows of dead processes; return the agents who had sockets there and have none left."""
    rows = connection.execute(select(agent_connections.c.agent_id, agent_connections.c.process)).all()
    dead = {row.process for row in rows if row.process not in living}
    if not dead:
        return set()
    connection.execute(delete(agent_connections).where(agent_connections.c.process.in_(dead)))
    left = {row.agent_id for row in rows if row.process not in dead}
    return {row.agent_id for row in rows} - left
