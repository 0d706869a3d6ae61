"""Checks of what lies around the database: the key, files and their permissions, disk space, another server."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path

from app.cli.checks.finding import Finding, error, info, ok, skipped, warning
from app.settings import Settings, key_file
from app.storage.filelock import lock_holder

__all__ = ["check_disk", "check_files", "check_key_file", "check_redis", "check_server"]

_LEAST_FREE = 200 * 1024 * 1024
_LITTLE_FREE = 1024 * 1024 * 1024


def check_server(database: Path | None) -> Finding:
    """Say which server works on an embedded database."""
    if database is None:
        return skipped(
            "server", "服务：PostgreSQL 允许多个进程", "server: PostgreSQL takes several processes"
        )
    holder = lock_holder(database)
    if holder is None:
        return ok("server", f"没有别的服务在使用 {database}", f"no server works on {database}")
    if holder.host != socket.gethostname():
        return warning(
            "server",
            f"另一台机器上的服务正在使用 {database}（{holder.host} 上的进程 {holder.pid}）",
            f"a server of another machine works on {database} ({holder})",
            "SQLite 文件不要放在共享文件夹；多台机器请用 PostgreSQL",
            "keep a SQLite file off shared folders; for several machines use PostgreSQL",
        )
    return info(
        "server",
        f"服务正在运行（{holder.host} 上的进程 {holder.pid}），使用 {database}；同一文件不能再启动第二个",
        f"a server is running ({holder}) on {database}; a second one can't start on the same file",
    )


def check_redis(url: str | None, trouble: str | None) -> Finding:
    """Say whether hints can get through; ``trouble`` as ``app.bus.probe`` found it."""
    if url is None:
        return skipped("redis", "未设置 Redis：多个进程之间靠轮询", "no Redis is set: several processes poll")
    if trouble is None:
        return ok("redis", "Redis 可用", "Redis answers")
    return warning(
        "redis",
        f"Redis 不可用（{trouble}）：一切照常，但进程之间的变化最多晚一秒",
        f"Redis can't be used ({trouble}): everything works, with up to a second's delay between processes",
        "检查 HUOJI_REDIS_URL 和 Redis 服务；不需要时去掉这个设置",
        "look at HUOJI_REDIS_URL and at the Redis server, or remove the setting",
    )


def check_key_file(settings: Settings, *, has_sealed: bool) -> Finding:
    """Look after the key that seals secrets; ``has_sealed``: whether some are stored."""
    if settings.secret_key is not None:
        return ok("secret_key", "已设置 HUOJI_SECRET_KEY", "HUOJI_SECRET_KEY is set")
    path = key_file(settings)
    if not path.exists():
        if has_sealed:
            return error(
                "secret_key",
                f"数据库里有加密的密钥，但找不到 {path}",
                f"secrets are stored, but the key they were sealed with is missing: {path}",
                f"把原来的 {path.name} 放回去，或设置 HUOJI_SECRET_KEY；找不回时用 huoji account set 重新填写密钥",
                f"put {path.name} back or set HUOJI_SECRET_KEY; if it is lost, enter the secrets anew with "
                "huoji account set",
            )
        return info(
            "secret_key",
            f"还没有密钥；开发环境首次使用时会生成 {path}",
            f"there is no key yet; in development {path} is made when it is first needed",
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return error(
            "secret_key",
            f"密钥文件 {path} 其他用户也能读",
            f"other users of this machine can read the key {path}",
            f"chmod 600 {path}",
            f"chmod 600 {path}",
        )
    return ok("secret_key", f"开发用密钥在 {path}", f"the key for development is {path}")


def check_files(settings: Settings, database: Path | None) -> list[Finding]:
    """Look whether files can be written, and by whom they can be read."""
    findings: list[Finding] = []
    for path in ([] if database is None else [database]) + [settings.media_dir]:
        blocked = _unwritable(path)
        if blocked is not None:
            findings.append(
                error(
                    "files",
                    f"不能写入 {blocked}",
                    f"{blocked} can't be written",
                    f"让运行 huoji 的用户拥有它：chown $(id -un) {blocked}",
                    f"make it belong to the user that runs huoji: chown $(id -un) {blocked}",
                )
            )
    if database is not None and database.exists() and settings.is_production:
        is_open = (
            stat.S_IMODE(database.stat().st_mode) & 0o007
            and stat.S_IMODE(database.parent.stat().st_mode) & 0o001
        )
        if is_open:
            findings.append(
                warning(
                    "files",
                    f"其他用户能读取数据库 {database}，里面有买家资料",
                    f"other users of this machine can read the database {database}, which holds buyers' data",
                    f"chmod 700 {database.parent.resolve()}",
                    f"chmod 700 {database.parent.resolve()}",
                )
            )
    return findings or [ok("files", "文件权限正常", "files can be written and are not open to others")]


def check_disk(path: Path) -> Finding:
    """Look how much room is left where the data grows."""
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    amount = f"{free / 1024**3:.1f} GiB"
    if free < _LITTLE_FREE:
        make = error if free < _LEAST_FREE else warning
        return make(
            "disk",
            f"{folder} 所在磁盘只剩 {amount}",
            f"only {amount} are free at {folder}",
            "清理磁盘，或把数据移到更大的磁盘",
            "make room, or move the data to a larger disk",
        )
    return ok("disk", f"磁盘剩余 {amount}", f"{amount} of disk are free")


def _unwritable(path: Path) -> Path | None:
    """Return the file or folder on the way to ``path`` that can't be written; None when nothing stands in the way."""
    if path.exists():
        return None if os.access(path, os.W_OK) else path
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    return None if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) else folder
