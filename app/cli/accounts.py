"""``huoji account``: a shop's seats on marketplaces."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from app.cli.output import note, print_json, print_table, say, will_be_json
from app.cli.values import read_assignments

__all__ = ["commands"]

commands = typer.Typer(help="平台账号 · marketplace accounts", no_args_is_help=True, rich_markup_mode=None)

AccountId = Annotated[str, typer.Argument(metavar="ID", help="账号编号 · the account's id")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="设置，可重复；值可为 @文件 或 -（标准输入） · setting, repeatable; the value may be @file or - (stdin)",
    ),
]


@commands.command("add")
def add_account(
    channel: Annotated[str, typer.Argument(help="渠道，见 huoji channel list · see huoji channel list")],
    account_id: AccountId,
    shop: Annotated[str, typer.Option(help="店铺，新的会建立 · the shop, made if it is new")],
    settings: Set = None,
    as_json: Annotated[bool, will_be_json()] = False,
) -> None:
    """添加账号 · add an account."""
    from app.cli.session import in_session

    values = _grouped(settings or [])
    info = in_session(
        lambda session: session.shops.add_account(channel, account_id, shop_id=shop, settings=values)
    )
    if as_json:
        print_json(info.to_wire())
        return
    say(
        f"已添加账号 {info.id}（{info.channel}，店铺 {info.shop_id}）",
        f"added {info.id} ({info.channel}, shop {info.shop_id})",
    )
    say(f"接收地址：/webhooks/{info.channel}/{info.id}", f"its webhook: /webhooks/{info.channel}/{info.id}")
    if "secret" not in info.settings:
        note(
            "还没有密钥，收到的消息都会被拒绝：huoji account set",
            f"it has no secret, so every webhook is refused; huoji account set {info.id} secret=@file",
        )


@commands.command("list")
def list_accounts(as_json: Annotated[bool, will_be_json()] = False) -> None:
    """列出账号 · list accounts."""
    from app.cli.session import in_session

    accounts = in_session(lambda session: session.shops.list_accounts())
    if as_json:
        print_json({"items": [account.to_wire() for account in accounts]})
        return
    print_table(
        ("ID", "CHANNEL", "SHOP", "STATE", "SETTINGS"),
        [
            (
                account.id,
                account.channel,
                account.shop_id,
                _state(account),
                ", ".join(account.settings) or "-",
            )
            for account in accounts
        ],
    )


@commands.command("set")
def set_account(
    account_id: AccountId,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE…", help="设置；空值删除 · settings; an empty value removes one"),
    ] = None,
    settings: Set = None,
    shop: Annotated[str | None, typer.Option(help="移到别的店铺 · move to another shop")] = None,
) -> None:
    """更改账号设置；secret 会整体替换 · change settings; all secrets are replaced by those given."""
    from app.cli.session import in_session

    given = [*(arguments or []), *(settings or [])]
    if not given and shop is None:
        raise typer.BadParameter("give at least one key=value")
    values = _grouped(given)
    in_session(lambda session: session.shops.set_account(account_id, values, shop_id=shop))
    say(
        f"已更改 {account_id}：{', '.join(values) or shop}",
        f"changed {account_id}: {', '.join(values) or shop}",
    )


@commands.command("pause")
def pause_account(
    account_id: AccountId, reason: Annotated[str, typer.Option(help="原因 · why")] = "paused by hand"
) -> None:
    """暂停发送，消息照收，回复等待 · stop sending; messages still come in, replies wait."""
    from app.cli.session import in_session

    in_session(lambda session: session.shops.pause_account(account_id, reason=reason))
    say(f"已暂停 {account_id}", f"paused {account_id}")


@commands.command("resume")
def resume_account(account_id: AccountId) -> None:
    """恢复发送 · send again, what waited first."""
    from app.cli.session import in_session

    in_session(lambda session: session.shops.resume_account(account_id))
    say(f"已恢复 {account_id}", f"resumed {account_id}")


@commands.command("remove")
def remove_account(account_id: AccountId) -> None:
    """移除账号及其密钥；历史会话保留 · remove an account and its secrets; past conversations stay."""
    from app.cli.session import in_session

    in_session(lambda session: session.shops.remove_account(account_id))
    say(f"已移除 {account_id}", f"removed {account_id}")


def _grouped(arguments: list[str]) -> dict[str, str | list[str]]:
    """Return a text for a setting that was given once, a list for one given several times."""
    grouped: dict[str, list[str]] = {}
    for key, value in read_assignments(arguments):
        grouped.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in grouped.items()}


def _state(account: Any) -> str:
    return f"{account.state} ({account.state_reason})" if account.state_reason else account.state
