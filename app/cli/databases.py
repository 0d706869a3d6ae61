"""``huoji db``: the tables and their version."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.output import print_json, say, will_be_json

__all__ = ["commands"]

commands = typer.Typer(help="数据库 · the database", no_args_is_help=True, rich_markup_mode=None)


@commands.command()
def upgrade() -> None:
    """建表，或升级到本程序的版本 · make the tables, or bring them to this program's version."""
    import asyncio

    from app.settings import load_settings
    from app.storage import schema

    before, after = asyncio.run(schema.upgrade(load_settings().database_url))
    if before == after:
        say(f"数据库已是最新（{after}）", f"the database is up to date ({after})")
    else:
        say(
            f"数据库已升级：{before or '空'} → {after}",
            f"upgraded the database: {before or 'empty'} → {after}",
        )


@commands.command()
def check(as_json: Annotated[bool, will_be_json()] = False) -> None:
    """数据库版本是否合适；不合适时状态为 1 · whether this program can work on the tables; status 1 when it can't."""
    import asyncio

    from app.settings import load_settings
    from app.storage import schema

    report = asyncio.run(schema.inspect_database(load_settings().database_url))
    if as_json:
        document = {"state": report.state.value, "revision": report.revision, "wanted": schema.HEAD}
        print_json({**document, "made_by": report.program})
    schema.require_usable(report)
    if not as_json:
        say(f"数据库版本正确（{report.revision}）", f"the database is as it should be ({report.revision})")
