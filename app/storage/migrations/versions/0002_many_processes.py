"""Several processes on one PostgreSQL: their rows, and the order of storing over all of them.

Only adds: a program of revision 0001 goes on working on these tables.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
kind = "expand"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NUMBERED = ("inbox", "outbox")


def upgrade() -> None:
    """Add the table of processes, and columns that stay empty in rows from before."""
    op.create_table(
        "processes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("joined", _ID, nullable=False),
        sa.Column("node", sa.SmallInteger(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at_ms", _ID, nullable=False),
        sa.Column("lease_until_ms", _ID, nullable=False),
        sa.Column("knows", _ID, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
        sa.UniqueConstraint("joined", name=op.f("uq_processes_joined")),
        sa.UniqueConstraint("node", name=op.f("uq_processes_node")),
    )
    op.create_table(
        "agent_connections",
        sa.Column("agent_id", _ID, autoincrement=False, nullable=False),
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("since_ms", _ID, nullable=False),
        sa.ForeignKeyConstraint(["agent_id"], ["users.id"], name=op.f("fk_agent_connections_agent_id")),
        sa.PrimaryKeyConstraint("agent_id", "process", name=op.f("pk_agent_connections")),
    )
    op.create_table(
        "login_tries",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("blocked_until_ms", _ID, nullable=False),
        sa.Column("last_ms", _ID, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_tries")),
    )
    for table in _NUMBERED:
        # Without a default at first, so that no row is rewritten.
        op.add_column(table, sa.Column("seq", _ID, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        for table in _NUMBERED:
            op.execute(f"CREATE SEQUENCE {table}_seq_seq OWNED BY {table}.seq")
            op.execute(f"ALTER TABLE {table} ALTER COLUMN seq SET DEFAULT nextval('{table}_seq_seq')")
        op.execute("CREATE SEQUENCE processes_joined_seq OWNED BY processes.joined")
        op.execute("CREATE INDEX ix_inbox_lane ON inbox (account_id, lane_key) WHERE state = 'open'")


def downgrade() -> None:
    """Take it all back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX ix_inbox_lane")
    for table in _NUMBERED:
        op.drop_column(table, "seq")
    op.drop_table("login_tries")
    op.drop_table("agent_connections")
    op.drop_table("processes")
