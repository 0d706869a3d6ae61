"""All commands put together, and the one place where an error becomes a line on stderr and an exit status.

Source: the contracts page, section 1: status 0 done, 1 the job failed (one line on stderr, no traceback), 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from app import __version__
from app.cli import (
    accounts,
    channels,
    databases,
    deliveries,
    diagnosis,
    evaluation,
    knowledge,
    people,
    serving,
    shops,
    simulation,
)
from app.core.crashpoints import points
from app.core.errors import HuojiError

__all__ = ["build", "run"]


def build() -> typer.Typer:
    """Return the whole command line."""
    program = typer.Typer(
        name="huoji",
        help="伙计：开源电商客服助手 · Huoji, customer service for e-commerce shops",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"max_content_width": 120},
    )

    @program.callback()
    def huoji(
        version: Annotated[
            bool,
            typer.Option("--version", callback=_show_version, is_eager=True, help="版本 · print the version"),
        ] = False,
    ) -> None:
        pass

    program.command("serve")(serving.serve)
    program.command("demo")(serving.demo)
    program.add_typer(databases.commands, name="db")
    program.add_typer(people.user_commands, name="user")
    program.add_typer(people.token_commands, name="token")
    program.add_typer(accounts.commands, name="account")
    program.add_typer(shops.commands, name="shop")
    program.add_typer(knowledge.commands, name="knowledge")
    program.command("evaluate")(evaluation.evaluate)
    program.command("simulate")(simulation.simulate)
    program.add_typer(channels.commands, name="channel")
    program.add_typer(deliveries.commands, name="delivery")
    program.command("doctor")(diagnosis.doctor)
    return program


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit status. Nothing but the command's own output reaches stdout."""
    try:
        points.arm(os.environ)
        status = build()(args=list(arguments), prog_name="huoji", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        _complain(error.format_message())
        return error.exit_code
    except HuojiError as error:
        _complain(error.message)
        return 1
    except (typer.Abort, KeyboardInterrupt):
        _complain("stopped")
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough (`huoji … | head`); the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, a person gets one line
        if os.environ.get("HUOJI_LOG_LEVEL", "").upper() == "DEBUG":
            traceback.print_exc()
        _complain(f"unexpected error, {type(error).__name__}: {error} (HUOJI_LOG_LEVEL=DEBUG shows where)")
        return 1
    return status if isinstance(status, int) else 0


def _complain(message: str) -> None:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    print(f"huoji: {'; '.join(lines) or 'failed'}", file=sys.stderr)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"huoji {__version__}")
        raise typer.Exit
