"""Two versions of the program on one database: which programs a schema is for, and of which revision each server is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
kind = "expand"


def upgrade() -> None:
    """Add two columns that stay empty in rows from before."""
    op.add_column("schema_history", sa.Column("needs", sa.Text(), nullable=True))
    op.add_column("processes", sa.Column("revision", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take them back."""
    op.drop_column("processes", "revision")
    op.drop_column("schema_history", "needs")
