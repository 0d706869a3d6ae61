"""``huoji shop``: shops' settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import print_json, print_table, say, will_be_json
from app.cli.values import read_assignments

__all__ = ["commands"]

commands = typer.Typer(help="店铺 · shops", no_args_is_help=True, rich_markup_mode=None)


@commands.command("set")
def set_shop(
    shop: Annotated[str, typer.Argument(help="店铺，新的会建立 · the shop, made if it is new")],
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE…",
            help="文本、JSON 或 @文件；null 删除 · text, JSON or @file; null takes a setting away",
        ),
    ],
) -> None:
    """更改店铺设置 · change a shop's settings."""
    from app.cli.session import in_session
    from app.knowledge.shop_files import setting_from_text

    values = {
        key: None if text == "null" else setting_from_text(key, text)
        for key, text in read_assignments(settings)
    }
    in_session(lambda session: session.shops.set_shop(shop, values))
    say(f"已更改店铺 {shop}：{', '.join(values)}", f"changed shop {shop}: {', '.join(values)}")


@commands.command("import")
def import_shop(
    file: Annotated[
        Path, typer.Argument(help="JSON 或 YAML，一个店铺对象 · JSON or YAML with one shop object")
    ],
    shop: Annotated[
        str | None, typer.Option(help="店铺编号，默认用文件里的 · the shop's id; default: the file's")
    ] = None,
) -> None:
    """用文件替换店铺的全部设置 · replace all of a shop's settings by a file's."""
    from app.cli.session import in_session
    from app.knowledge.shop_files import read_shop_file

    values = read_shop_file(file)
    info = in_session(lambda session: session.shops.import_shop(values, shop_id=shop))
    say(f"已导入店铺 {info.id}（{info.name}）", f"imported shop {info.id} ({info.name})")


@commands.command("list")
def list_shops(as_json: Annotated[bool, will_be_json()] = False) -> None:
    """列出店铺 · list shops."""
    from app.cli.session import in_session

    shops = in_session(lambda session: session.shops.list_shops())
    if as_json:
        print_json({"items": [shop.to_wire() for shop in shops]})
        return
    print_table(
        ("ID", "NAME", "MODE", "SETTINGS"),
        [(shop.id, shop.name, shop.settings.get("mode", "auto"), len(shop.settings)) for shop in shops],
    )
