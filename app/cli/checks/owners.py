"""The check of who works which partitions: the processes that share a PostgreSQL database."""

from __future__ import annotations

from sqlalchemy import Connection

from app.cli.checks.finding import Finding, error, info, ok, skipped, warning
from app.storage.leases import PARTITIONS, read_holdings, read_processes, shares

__all__ = ["check_owners"]


def check_owners(connection: Connection) -> Finding:
    """Say which processes live, how many partitions each works, and whether any partition has nobody."""
    if connection.dialect.name == "sqlite":
        return skipped(
            "partitions",
            "分区：SQLite 只有一个服务，全部归它",
            "partitions: SQLite has one server, which works all of them",
        )
    counted = shares(read_holdings(connection))
    processes = read_processes(connection)
    late = [row for row in processes if row.remaining_ms < 0]
    living = [row for row in processes if row.remaining_ms >= 0]
    if late:
        names = ", ".join(f"{row.host}:{row.pid}" for row in late)
        mend_zh, mend_en = (
            "看它的日志和它到数据库的连接；别的服务会在几秒内接手它的分区",
            "look at its log and its line to the database; others take over its partitions within seconds",
        )
        return (warning if living else error)(
            "partitions", f"服务没有续租：{names}", f"did not renew its lease: {names}", mend_zh, mend_en
        )
    if not living:
        return info("partitions", "没有服务在运行", "no server is running")
    parts = [(row, counted.get(row.id, 0)) for row in living]
    owned = sum(count for _, count in parts)
    zh = "，".join(f"{row.host}:{row.pid} 有 {count} 个" for row, count in parts)
    en = ", ".join(f"{row.host}:{row.pid} works {count}" for row, count in parts)
    if owned < PARTITIONS:
        return warning(
            "partitions",
            f"{PARTITIONS} 个分区中有 {PARTITIONS - owned} 个暂时无人负责：{zh}",
            f"{PARTITIONS - owned} of {PARTITIONS} partitions have nobody at the moment: {en}",
            "分区正在交接；几秒后再看，仍然如此请查看服务日志中的 lease",
            "they are changing hands; look again in a few seconds, and if it stays, for lease in the servers' logs",
        )
    versions = {row.version for row in living}
    mixed = f"（版本 {'、'.join(sorted(versions))}）" if len(versions) > 1 else ""
    mixed_en = f" (versions {', '.join(sorted(versions))})" if len(versions) > 1 else ""
    return ok("partitions", f"分区：{zh}{mixed}", f"partitions: {en}{mixed_en}")
