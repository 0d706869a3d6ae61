"""Checks of what stands in the database: knowledge, accounts, dead letters, people, and the database's clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import Connection, func, select, text

from app.channels.registry import Registry
from app.cli.checks.finding import Finding, error, info, ok, skipped, warning
from app.core.clock import Clock
from app.core.crypto import SecretBox
from app.core.errors import HuojiError
from app.desk.people import user_from_row
from app.domain.delivery import Account
from app.knowledge.versions import current_version
from app.shops.directory import account_from_row
from app.storage.tables import accounts, groups, outbox, users

__all__ = [
    "check_accounts",
    "check_clock",
    "check_dead_letters",
    "check_knowledge",
    "check_people",
    "read_accounts",
]

_SKEW_ERROR_MS = 60_000
"""Source: the faults to survive, F41: alarmed above 60 s."""

_SKEW_WARNING_MS = 5_000


def check_clock(connection: Connection, clock: Clock) -> Finding:
    """Compare this machine's clock with the database server's."""
    if connection.dialect.name == "sqlite":
        return skipped(
            "clock",
            "时钟：SQLite 与本机同一时钟，无需比较",
            "clock: SQLite has this machine's own; nothing to compare",
        )
    before = clock.now_ms()
    there = float(
        connection.execute(text("SELECT extract(epoch FROM clock_timestamp()) * 1000")).scalar_one()
    )
    after = clock.now_ms()
    # The answer was read somewhere between the two; only what lies outside is surely a difference.
    skew = there - after if there > after else min(0.0, there - before)
    seconds = f"{abs(skew) / 1000:.1f}"
    if abs(skew) <= _SKEW_WARNING_MS:
        return ok("clock", f"与数据库的时钟相差 {seconds} 秒", f"the database's clock is {seconds} s off")
    make = error if abs(skew) > _SKEW_ERROR_MS else warning
    ahead = skew > 0
    return make(
        "clock",
        f"数据库的时钟比本机{'快' if ahead else '慢'} {seconds} 秒",
        f"the database's clock is {seconds} s {'ahead of' if ahead else 'behind'} this machine's",
        "在两台机器上启用时间同步（如 chrony）",
        "turn on time synchronisation (chrony, for one) on both machines",
    )


def check_knowledge(connection: Connection) -> Finding:
    """Look whether knowledge is in service."""
    version = current_version(connection)
    if version == 0:
        return error(
            "knowledge",
            "还没有发布知识，所有消息都会转人工",
            "no knowledge is published, so every message goes to a human",
            "huoji knowledge import 目录 --publish",
            "huoji knowledge import FOLDER --publish",
        )
    return ok("knowledge", f"知识版本 {version} 正在使用", f"knowledge version {version} is in service")


def read_accounts(connection: Connection) -> list[dict[str, Any]]:
    """Return the rows of all accounts."""
    rows = select(accounts).where(accounts.c.state != "removed").order_by(accounts.c.id)
    return [dict(row) for row in connection.execute(rows).mappings()]


def check_accounts(
    rows: Iterable[Mapping[str, Any]], box: SecretBox | None, registry: Registry
) -> list[Finding]:
    """Look at every account: its secrets, its callback, whether it is paused.

    ``box`` None: there is no key, so whether secrets open can't be told (``check_key_file`` says so).
    """
    findings: list[Finding] = []
    listed = list(rows)
    for row in listed:
        findings += _check_account(row, box, registry)
    if not listed:
        return [
            info(
                "accounts", "还没有平台账号：huoji account add", "there is no account yet: huoji account add"
            )
        ]
    return findings or [ok("accounts", f"{len(listed)} 个账号正常", f"{len(listed)} accounts are in order")]


def _check_account(row: Mapping[str, Any], box: SecretBox | None, registry: Registry) -> list[Finding]:
    name = row["id"]
    findings: list[Finding] = []
    if row["state"] == "paused":
        why = row["state_reason"] or "-"
        findings.append(
            warning(
                "account_paused",
                f"账号 {name} 已暂停发送（{why}），回复都在等待",
                f"account {name} is paused ({why}); its replies wait",
                f"解决原因后运行 huoji account resume {name}",
                f"mend the cause, then: huoji account resume {name}",
            )
        )
    try:
        account = _open(row, box, registry)
        adapter = registry.for_account(account)
    except HuojiError as problem:
        findings.append(
            error(
                "account_unreadable",
                f"账号 {name} 不能使用：{problem.message}",
                f"account {name} can't be used: {problem.message}",
                "放回原来的密钥，或用 huoji account set 重新填写",
                "put the old key back, or enter its settings anew with huoji account set",
            )
        )
        return findings
    known = {field.name for field in adapter.settings}
    has_secret = bool(orjson.loads(row["settings"]).get("secret"))
    if "secret" in known and not has_secret:
        findings.append(
            error(
                "account_secret",
                f"账号 {name} 没有密钥，收到的消息都会被拒绝",
                f"account {name} has no secret, so every webhook is refused",
                f"huoji account set {name} secret=@文件",
                f"huoji account set {name} secret=@FILE",
            )
        )
    if "callback_url" in known and not account.settings.get("callback_url"):
        findings.append(
            error(
                "account_callback",
                f"账号 {name} 没有 callback_url，回复发不出去",
                f"account {name} has no callback_url, so no reply can be sent",
                f"huoji account set {name} callback_url=https://…",
                f"huoji account set {name} callback_url=https://…",
            )
        )
    return findings


def _open(row: Mapping[str, Any], box: SecretBox | None, registry: Registry) -> Account:
    if box is not None:
        return account_from_row(row, box, registry)
    settings = {
        name: value for name, value in orjson.loads(row["settings"]).items() if isinstance(value, str)
    }
    return Account(
        id=row["id"], channel=row["channel"], shop_id=row["shop_id"], secrets=(), settings=settings
    )


def check_dead_letters(connection: Connection) -> Finding:
    """Count replies that could not be delivered."""
    failed = select(func.count()).select_from(outbox).where(outbox.c.state == "failed")
    count = connection.execute(failed).scalar_one()
    if not count:
        return ok("dead_letters", "没有投递失败的回复", "no reply failed to be delivered")
    return warning(
        "dead_letters",
        f"{count} 条回复投递失败",
        f"{count} replies could not be delivered",
        "huoji delivery list 查看原因，huoji delivery replay 重新投递",
        "huoji delivery list shows why; huoji delivery replay sends them again",
    )


def check_people(connection: Connection) -> list[Finding]:
    """Look whether every group has somebody."""
    people = [user_from_row(row) for row in connection.execute(select(users)).mappings()]
    active = [person for person in people if not person.is_disabled]
    if not active:
        return [
            warning(
                "people",
                "还没有客服人员，转人工的会话没有人接",
                "there is nobody to take over conversations",
                "huoji user add 名字 --role agent",
                "huoji user add NAME --role agent",
            )
        ]
    empty = [
        row
        for row in connection.execute(select(groups.c.id, groups.c.name).order_by(groups.c.id))
        if not any(person.serves(row.id) for person in active)
    ]
    return [
        warning(
            "group_empty",
            f"{row.name}组（{row.id}）没有人，由主管代接",
            f"nobody is in the group {row.id}; supervisors stand in",
            f"huoji user add 名字 --role agent --group {row.id}",
            f"huoji user add NAME --role agent --group {row.id}",
        )
        for row in empty
    ] or [
        ok("people", f"{len(active)} 位人员，每个组都有人", f"{len(active)} people; every group has somebody")
    ]
