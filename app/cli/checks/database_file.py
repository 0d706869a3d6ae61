"""Checks of an embedded database's file: whether it is whole, and whether its log has grown."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from app.cli.checks.finding import Finding, error, ok, warning
from app.storage.damage import find_damage, what_to_do
from app.storage.urls import wal_bytes

__all__ = ["check_contents", "check_log"]

_SECONDS = 300.0
"""How long the file is read: a disk that gives 50 MB a second gets through 15 GB."""

LARGE_LOG = 256 * 1024 * 1024
"""Source: the faults to survive, F11; the alert HuojiWalLarge has the same."""


def check_contents(database: Path) -> Finding:
    """Read the whole file and say whether every page of it is in order. Takes up to minutes; changes nothing."""
    try:
        damage, is_whole = find_damage(database, seconds=_SECONDS)
    except sqlite3.Error as problem:
        return _unread(database, str(problem))
    if damage is not None:
        return error(
            "database_damaged",
            f"数据库文件已损坏：{damage}。没有改动任何内容",
            f"the database file is damaged: {damage}. Nothing was changed",
            f"停止服务，把 {database} 和 {database.name}-wal 一起复制保存；然后恢复最近的备份，或读出还能读的内容："
            f"sqlite3 {database} .recover | sqlite3 {database.with_name('recovered.db')}",
            f"Stop the server. {what_to_do(database)}",
        )
    if not is_whole:
        return _unread(database, f"not done after {_SECONDS:.0f} s")
    return ok("database_file", "数据库文件完好", "every page of the database file is in order")


def check_log(database: Path) -> Finding:
    """Look how large the write-ahead log has grown."""
    size = wal_bytes(database)
    amount = f"{size / 1024**2:.0f} MiB"
    if size < LARGE_LOG:
        return ok("database_log", f"数据库日志 {amount}", f"the database's log has {amount}")
    return warning(
        "database_log",
        f"数据库日志已有 {amount}：有程序一直在读 {database}，日志不能从头写起",
        f"the database's log has grown to {amount}: something keeps reading {database}, so it can't begin anew",
        f"用 lsof {database} 找到一直开着它的程序（备份、sqlite3 命令行）并关掉",
        f"find what holds it open (a backup, a sqlite3 shell) with lsof {database}, and end that",
    )


def _unread(database: Path, why: str) -> Finding:
    return warning(
        "database_file",
        f"没能检查完数据库文件（{why}）",
        f"the database file could not be looked at to its end ({why})",
        f"sqlite3 {database} 'PRAGMA quick_check'",
        f"sqlite3 {database} 'PRAGMA quick_check'",
    )
