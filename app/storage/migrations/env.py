"""What Alembic runs for every command: on the connection of ``app.storage.schema``, or, for ``alembic revision
--autogenerate`` and ``alembic check`` of a developer, on the database given as ``-x url=sqlite:///var/dev.db``."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine

from app.storage.tables import POSTGRESQL_INDEXES, metadata

_OURS_ALONE = frozenset({"schema_history"})


def _is_compared(
    _object: object, name: str | None, kind: str, _reflected: bool, _compared_to: object
) -> bool:
    """Whether autogenerate looks at something: not at the table that the migrations keep for themselves, nor at what
    only one of the databases has."""
    return not (kind == "table" and name in _OURS_ALONE) and not (
        kind == "index" and name in POSTGRESQL_INDEXES
    )


def _run(connection: Connection) -> None:
    record = context.config.attributes.get("record")

    # The names are Alembic's: it passes them as keywords.
    def applied(ctx: object, step: Any, heads: object, run_args: object) -> None:
        if record is not None:
            revisions = step.up_revision_ids if step.is_upgrade else step.down_revision_ids
            for revision in revisions:
                record(connection, revision, is_upgrade=step.is_upgrade)

    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        include_object=_is_compared,
        on_version_apply=applied,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_given: Connection | None = context.config.attributes.get("connection")
if _given is not None:
    _run(_given)
else:
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as _own:
        _run(_own)
