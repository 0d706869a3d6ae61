"""``huoji channel list``: what each marketplace can do."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.output import print_json, print_table, will_be_json

__all__ = ["commands"]

commands = typer.Typer(help="渠道 · channels", no_args_is_help=True, rich_markup_mode=None)


@commands.callback()
def channel() -> None:
    """渠道 · channels."""


@commands.command("list")
def list_channels(as_json: Annotated[bool, will_be_json()] = False) -> None:
    """列出渠道及其能力 · list the channels and what they can do."""
    from app.channels.registry import Registry

    registry = Registry()
    items = [registry.capabilities(name).to_wire() for name in registry.names()]
    if as_json:
        print_json({"items": items})
        return
    columns = ("channel", "chat_in", "chat_out", "events", "orders", "tier")
    print_table(
        [name.upper() for name in columns], [[item[name] or "-" for name in columns] for item in items]
    )
