"""``huoji serve`` and ``huoji demo``."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["demo", "serve"]

Host = Annotated[str, typer.Option(help="监听地址 · address to listen on")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="端口，0 为任意空闲 · port; 0 takes a free one")]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    database_url: Annotated[str | None, typer.Option(help="HUOJI_DATABASE_URL")] = None,
    redis_url: Annotated[str | None, typer.Option(help="HUOJI_REDIS_URL")] = None,
) -> None:
    """运行服务 · run the server: webhooks, API, WebSocket, console, workers."""
    from app.main import run_server
    from app.settings import load_settings

    settings = load_settings(database_url=database_url, redis_url=redis_url)
    raise typer.Exit(run_server(settings, host=host, port=port, demo=False))


def demo(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """演示：全新的内嵌数据库、演示店铺和沙箱平台 · a demo with a fresh database, demo shops and a sandbox."""
    from app.cli.demo import run_demo

    raise typer.Exit(run_demo(host=host, port=port))
