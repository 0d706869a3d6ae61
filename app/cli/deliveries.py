"""``huoji delivery``: replies that could not be delivered, and sending them again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.output import print_json, print_table, say, will_be_json
from app.core.errors import NotFoundError

__all__ = ["commands"]

commands = typer.Typer(
    help="投递失败的回复 · undelivered replies", no_args_is_help=True, rich_markup_mode=None
)


@commands.command("list")
def list_deliveries(
    account: Annotated[str | None, typer.Option(help="只看此账号 · of this account only")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="最多几条 · at most")] = 100,
    as_json: Annotated[bool, will_be_json()] = False,
) -> None:
    """列出投递失败的回复，最新在前 · list dead letters, newest first."""
    from sqlalchemy import Connection, select

    from app.cli.session import in_session
    from app.core.clock import rfc3339
    from app.storage.tables import conversations, outbox

    def read(connection: Connection) -> list[dict[str, Any]]:
        rows = (
            select(outbox, conversations.c.external_id)
            .join(conversations, conversations.c.id == outbox.c.conversation_id)
            .where(outbox.c.state == "failed")
            .order_by(outbox.c.id.desc())
            .limit(limit)
        )
        if account is not None:
            rows = rows.where(outbox.c.account_id == account)
        return [
            {
                "id": str(row["id"]),
                "account_id": row["account_id"],
                "conversation_id": str(row["conversation_id"]),
                "conversation_external_id": row["external_id"],
                "author": row["author"],
                "attempts": row["attempts"],
                "error": row["error"],
                "created_at": rfc3339(row["created_at_ms"]),
                "failed_at": rfc3339(row["done_at_ms"]),
            }
            for row in connection.execute(rows).mappings()
        ]

    items = in_session(lambda session: session.database.read(read))
    if as_json:
        print_json({"items": items})
        return
    columns = ("id", "account_id", "conversation_external_id", "author", "attempts", "failed_at", "error")
    header = ("ID", "ACCOUNT", "CONVERSATION", "AUTHOR", "TRIES", "FAILED", "ERROR")
    print_table(
        header, [[item[name] if item[name] is not None else "-" for name in columns] for item in items]
    )


@commands.command("replay")
def replay_deliveries(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID…", help="编号 · ids from the list")] = None,
    everything: Annotated[bool, typer.Option("--all", help="全部 · all of them")] = False,
    account: Annotated[
        str | None, typer.Option(help="与 --all 合用 · with --all: of this account only")
    ] = None,
) -> None:
    """重新投递，沿用原来的幂等键 · send again, under the same idempotency keys."""
    from sqlalchemy import Connection, select

    from app.cli.session import Session, in_session
    from app.delivery.outbox import replay
    from app.storage.database import bump_revision
    from app.storage.tables import outbox

    if bool(ids) == everything:
        raise typer.BadParameter("give ids, or --all")

    async def job(session: Session) -> int:
        now_ms = session.clock.now_ms()

        def write(connection: Connection) -> int:
            chosen = list(ids or ())
            if everything:
                failed = select(outbox.c.id).where(outbox.c.state == "failed").order_by(outbox.c.id)
                if account is not None:
                    failed = failed.where(outbox.c.account_id == account)
                chosen = [row.id for row in connection.execute(failed)]
            for outbox_id in sorted(chosen):
                if not replay(connection, outbox_id, now_ms=now_ms):
                    raise NotFoundError(f"{outbox_id} is no undelivered reply; see: huoji delivery list")
            bump_revision(connection, "outbox")
            return len(chosen)

        return await session.database.write(write)

    count = in_session(job)
    say(f"{count} 条回复重新投递", f"{count} replies are on their way again")
