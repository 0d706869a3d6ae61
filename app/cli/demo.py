"""``huoji demo``: a fresh embedded database with knowledge, shops, people and sandbox accounts, then the server."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.cli.output import note, print_table, say
from app.core.errors import ConfigurationError
from app.storage.filelock import FileLock, lock_holder

if TYPE_CHECKING:
    from app.settings import Settings

__all__ = ["DemoPerson", "demo_folder", "find_demo_database", "is_demo_database", "run_demo", "seed"]

_ROOT = Path("var/demo")
_DATABASE = "huoji.db"
_PASSWORD_BYTES = 9
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody who works in the demo shops."""

    name: str
    role: str
    groups: tuple[str, ...] = ()
    password: str = ""


_PEOPLE = (
    DemoPerson("店长", "admin"),
    DemoPerson("主管", "supervisor"),
    DemoPerson("小美", "agent", ("presale",)),
    DemoPerson("阿强", "agent", ("aftersale",)),
    DemoPerson("小雅", "agent", ("vip",)),
)


def demo_folder(port: int) -> Path:
    """Return where the demo on a port keeps its data; only one demo at a time can have the port."""
    return _ROOT / str(port)


def find_demo_database(url: str) -> str | None:
    """Return the database URL of a demo that was started in this folder and runs at ``url``; None when none does."""
    parts = urlsplit(url)
    if parts.hostname not in _LOOPBACK or parts.port is None:
        return None
    database = demo_folder(parts.port) / _DATABASE
    return f"sqlite:///{database}" if lock_holder(database) is not None else None


def is_demo_database(url: str) -> bool:
    """Whether a database URL is a demo's."""
    return url.startswith(f"sqlite:///{_ROOT}/")


def run_demo(*, host: str, port: int) -> int:
    """Make everything afresh and serve until told to stop; return the exit status.

    Raises:
        ConfigurationError: the port or the demo's folder is in use, or can't be used.
    """
    from app.core.clock import SystemClock
    from app.core.ids import SystemIds
    from app.main import run_server
    from app.settings import load_secret_key

    _require_free(host, port)
    port = port or _free_port()
    folder = demo_folder(port)
    settings = _settings(folder)
    note("正在准备演示数据……", "preparing the demo …")
    with FileLock(folder / _DATABASE) as lock:
        _clear(folder, keep=f"{_DATABASE}.lock")
        # Made here and now, so that nobody is told to look after the key of something that begins afresh each time.
        load_secret_key(settings, SystemIds(SystemClock()))
        people = asyncio.run(seed(settings, base_url=f"http://127.0.0.1:{port}"))
        lock.release()
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not listened on

        def announce(_application: Any) -> None:
            _announce(f"http://{f'[{shown}]' if ':' in shown else shown}:{port}", folder, people)

        return run_server(settings, host=host, port=port, demo=True, on_ready=announce)


async def seed(settings: Settings, *, base_url: str) -> Sequence[DemoPerson]:
    """Fill an empty database; return the people with their passwords.

    ``base_url``: where the server will reach itself, for the sandbox marketplace's addresses.
    """
    from app.channels.addresses import AddressPolicy
    from app.cli.session import open_session
    from app.desk.passwords import Argon2Cost, Passwords
    from app.desk.people import UserService
    from app.knowledge.files import load_entries
    from app.knowledge.shipped import shipped_demo, shipped_knowledge
    from app.sandbox.accounts import sandbox_accounts
    from app.shops.service import ShopService

    async with open_session(settings) as session:
        loaded = load_entries([shipped_knowledge()])
        await session.knowledge.import_files(loaded)
        await session.knowledge.publish(author="demo")
        shops = ShopService(
            session.database,
            registry=session.registry,
            box=session.box,
            clock=session.clock,
            ids=session.ids,
            policy=AddressPolicy.parse(settings.allowed_private_hosts),
        )
        for shop in _read_shops(shipped_demo() / "shops.yaml"):
            await shops.import_shop(shop, actor="demo")
        for spec in sandbox_accounts(base_url, ids=session.ids):
            await shops.add_account(
                spec.channel, spec.id, shop_id=spec.shop_id, settings=spec.settings, actor="demo"
            )
        # Passwords that a program made carry their strength themselves; a slow hash would only slow the start.
        cheap = Passwords(Argon2Cost(passes=1, memory_kib=8 * 1024))
        users = UserService(session.database, clock=session.clock, ids=session.ids, passwords=cheap)
        people = [
            DemoPerson(one.name, one.role, one.groups, session.ids.token(_PASSWORD_BYTES)) for one in _PEOPLE
        ]
        for one in people:
            await users.add(one.name, role=one.role, password=one.password, groups=one.groups, actor="demo")
        return people


def _settings(folder: Path) -> Settings:
    from app.settings import load_settings

    # A demo never touches the real database, nor Redis, whatever is set.
    fixed: dict[str, Any] = {
        "env": "development",
        "database_url": f"sqlite:///{folder / _DATABASE}",
        "redis_url": "",
        "secret_key": "",
        "media_dir": folder / "media",
        "allowed_private_hosts": _LOOPBACK,
    }
    settings = load_settings(**fixed)
    if "log_level" not in settings.model_fields_set:
        # The terminal belongs to the addresses and logins.
        settings = load_settings(**fixed, log_level="WARNING")
    return settings


def _read_shops(path: Path) -> list[dict[str, Any]]:
    from app.knowledge.yaml_text import read_yaml

    document: Any = read_yaml(path.read_bytes(), numbers=True).value
    return document["shops"]


def _clear(folder: Path, *, keep: str) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != keep:
            path.unlink()


def _require_free(host: str, port: int) -> None:
    """Say at once that a port is taken, instead of after a second of preparation."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port",
                code="port_in_use",
            ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _announce(address: str, folder: Path, people: Sequence[DemoPerson]) -> None:
    with contextlib.suppress(BrokenPipeError):
        print()
        say("伙计演示已就绪", "the Huoji demo is ready")
        print()
        print_table(
            ("地址 · ADDRESS", ""),
            [
                (f"{address}/sandbox/", "扮演买家，看回复和处理过程 · play a buyer and watch"),
                (f"{address}/openapi.json", "接口说明 · the API"),
                (f"{address.replace('http', 'ws', 1)}/ws/agent", "客服的 WebSocket · for agents"),
            ],
        )
        print()
        print_table(
            ("登录名 · LOGIN", "密码 · PASSWORD", "角色 · ROLE", "组 · GROUPS"),
            [(one.name, one.password, one.role, ", ".join(one.groups) or "-") for one in people],
        )
        print()
        database = f"HUOJI_DATABASE_URL=sqlite:///{(folder / _DATABASE).absolute()}"
        say(f"其他命令请加：{database}", f"for other commands: {database}")
        say("按 Ctrl+C 结束；下次启动数据重新生成", "Ctrl+C ends it; the next start begins afresh")
        print(flush=True)
