"""``huoji user`` and ``huoji token``: who may sign in, and scripts' tokens."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.cli.output import print_json, print_table, say, will_be_json
from app.cli.values import read_password
from app.desk.permissions import Role

__all__ = ["parse_expiry", "token_commands", "user_commands"]

user_commands = typer.Typer(help="人员 · people", no_args_is_help=True, rich_markup_mode=None)
token_commands = typer.Typer(help="脚本令牌 · scripts' tokens", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="登录名 · name to sign in with")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="从标准输入读密码 · read the password from stdin")
]

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@user_commands.command("add")
def add_user(
    name: Name,
    role: Annotated[Role, typer.Option(help="角色 · role")],
    group: Annotated[list[str] | None, typer.Option(help="组，可重复 · group, repeatable")] = None,
    shop: Annotated[
        list[str] | None, typer.Option(help="只看这些店铺，可重复 · only these shops, repeatable")
    ] = None,
    max_load: Annotated[int, typer.Option(min=1, max=1000, help="同时接待上限 · conversations at once")] = 8,
    display_name: Annotated[str | None, typer.Option(help="显示名 · name that others see")] = None,
    password_stdin: FromStdin = False,
) -> None:
    """添加人员；不给密码时生成一个并显示一次 · add a person; without a password one is made and shown once."""
    from app.cli.session import Session, in_session

    password, is_made = _password(password_stdin)

    async def job(session: Session) -> str:
        chosen = password or session.ids.token(12)
        await session.users.add(
            name, role=role, password=chosen, groups=group or (), shops=shop or (), max_load=max_load,
            display_name=display_name,
        )  # fmt: skip
        return chosen

    made = in_session(job)
    say(f"已添加 {name}（{role.value}）", f"added {name} ({role.value})")
    if is_made:
        say(f"密码（只显示一次）：{made}", f"password (shown once): {made}")


@user_commands.command("list")
def list_users(as_json: Annotated[bool, will_be_json()] = False) -> None:
    """列出人员 · list people."""
    from app.cli.session import in_session

    people = in_session(lambda session: session.users.list())
    if as_json:
        print_json({"items": [
            {
                "id": str(user.id), "name": user.name, "display_name": user.display_name, "role": user.role.value,
                "groups": list(user.groups), "shops": list(user.shops), "max_load": user.max_load,
                "disabled": user.is_disabled,
            }
            for user in people
        ]})  # fmt: skip
        return
    print_table(
        ("NAME", "ROLE", "GROUPS", "SHOPS", "MAX", "STATE"),
        [
            (
                user.name, user.role.value, ",".join(user.groups) or "-", ",".join(user.shops) or "*", user.max_load,
                "disabled" if user.is_disabled else "active",
            )
            for user in people
        ],
    )  # fmt: skip


@user_commands.command("passwd")
def set_password(name: Name, password_stdin: FromStdin = False) -> None:
    """设置新密码并退出所有登录 · set a new password and sign the person out everywhere."""
    from app.cli.session import Session, in_session

    password, is_made = _password(password_stdin)

    async def job(session: Session) -> str:
        chosen = password or session.ids.token(12)
        await session.users.passwd(name, chosen)
        return chosen

    made = in_session(job)
    say(f"{name} 的密码已更改", f"changed the password of {name}")
    if is_made:
        say(f"密码（只显示一次）：{made}", f"password (shown once): {made}")


@user_commands.command("disable")
def disable_user(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="重新启用 · let the person in again")] = False,
) -> None:
    """停用人员并退出所有登录 · close a person's access and sign them out everywhere."""
    from app.cli.session import in_session

    in_session(lambda session: session.users.disable(name, disabled=not undo))
    if undo:
        say(f"已启用 {name}", f"enabled {name}")
    else:
        say(f"已停用 {name}", f"disabled {name}")


@token_commands.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="用途 · what it is for")],
    role: Annotated[Role, typer.Option(help="角色 · role")],
    expires: Annotated[
        str | None, typer.Option(help="有效期，如 30d、12h，或日期 · 30d, 12h, or a date such as 2027-01-31")
    ] = None,
) -> None:
    """生成脚本令牌，只显示一次 · make a script's token, shown once."""
    from app.cli.session import Session, in_session

    async def job(session: Session) -> str:
        expiry = None if expires is None else parse_expiry(expires, session.clock.now_ms())
        return await session.tokens.create(name, role=role, expires_at_ms=expiry)

    print(in_session(job))


def parse_expiry(text: str, now_ms: int) -> int:
    """Return when something expires, in milliseconds UTC: a length such as ``30d`` from now, or a date and time.

    Raises:
        typer.BadParameter: it is neither, or already past.
    """
    from app.core.clock import from_rfc3339

    number, unit = text[:-1], text[-1:]
    try:
        at_ms = now_ms + int(number) * _UNITS[unit] * 1000 if unit in _UNITS else from_rfc3339(text)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            "--expires is a length such as 30d or 12h, or a date such as 2027-01-31"
        ) from None
    if at_ms <= now_ms:
        raise typer.BadParameter("--expires lies in the past")
    return at_ms


def _password(from_stdin: bool) -> tuple[str | None, bool]:
    """Return the password that was given (None: one is to be made), and whether it is to be made."""
    if from_stdin:
        return read_password(), False
    if sys.stdin.isatty():
        return typer.prompt("密码 · password", hide_input=True, confirmation_prompt=True), False
    return None, True
