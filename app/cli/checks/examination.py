"""The examination: every check that can be made, in order; one that fails doesn't keep the others from being made."""

from __future__ import annotations

import asyncio

import orjson

from app.bus.probe import probe_redis
from app.channels.registry import Registry
from app.cli.checks import database_file, machine, owners, stored
from app.cli.checks.finding import Finding, error, ok
from app.core.clock import SystemClock
from app.core.crypto import SecretBox
from app.core.errors import ConfigurationError, HuojiError
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from app.settings import Settings, key_file, load_secret_key, load_settings
from app.storage import schema
from app.storage.database import Database
from app.storage.urls import parse_database_url, sqlite_path

__all__ = ["examine"]

_SCHEMA = {
    "schema_absent": ("数据库里还没有表", "huoji db upgrade", "huoji db upgrade"),
    "schema_behind": (
        "数据库版本比程序旧",
        "备份后运行 huoji db upgrade",
        "after a backup: huoji db upgrade",
    ),
    "schema_newer": (
        "数据库由更新的版本建立",
        "安装那个版本或更新的版本",
        "install that version or a later one",
    ),
}
"""What is wrong in Chinese, and how to mend it in Chinese and English, by error code."""


async def examine() -> list[Finding]:
    """Look at this installation without changing anything; return what was found."""
    settings, findings = _settings()
    if settings is None:
        return findings
    path = sqlite_path(parse_database_url(settings.database_url))
    findings.append(machine.check_server(path))
    url = settings.redis_url
    findings.append(machine.check_redis(url, None if url is None else await probe_redis(url)))
    findings += machine.check_files(settings, path)
    findings.append(machine.check_disk(path.parent if path is not None else settings.media_dir))
    if path is not None and path.is_file():
        findings.append(database_file.check_log(path))
        findings.append(await asyncio.to_thread(database_file.check_contents, path))
    try:
        report = await schema.inspect_database(settings.database_url)
    except ConfigurationError as problem:
        findings.append(_unreachable(problem.message))
        return [*findings, machine.check_key_file(settings, has_sealed=False)]
    try:
        schema.require_usable(report)
    except ConfigurationError as problem:
        zh, mend_zh, mend_en = _SCHEMA[problem.code]
        findings.append(error("schema", zh, problem.message, mend_zh, mend_en))
        return [*findings, machine.check_key_file(settings, has_sealed=False)]
    findings.append(_usable(report))
    return [*findings, *await _stored(settings)]


def _usable(report: schema.SchemaReport) -> Finding:
    zh, en = f"数据库版本 {report.revision}", f"the database is at revision {report.revision}"
    if report.state is schema.SchemaState.AHEAD:
        zh += f"，由更新的版本升级（本程序 {schema.HEAD}），可以共用"
        en += f", brought there by a later version (this one's is {schema.HEAD}), which does no harm"
    return ok("schema", zh, en)


def _settings() -> tuple[Settings | None, list[Finding]]:
    try:
        settings = load_settings()
    except ConfigurationError as problem:
        finding = error(
            "settings", f"设置有误：{problem.message}", f"the settings are wrong: {problem.message}",
            "改正环境变量或 .env，见 docs/settings.md", "correct the environment or .env; see docs/settings.md",
        )  # fmt: skip
        try:
            # What is wrong may be a rule of production alone; the rest can be looked at all the same.
            return load_settings(env="development"), [finding]
        except ConfigurationError:
            return None, [finding]
    return settings, [
        ok("settings", f"设置正确（{settings.env}）", f"the settings are in order ({settings.env})")
    ]


async def _stored(settings: Settings) -> list[Finding]:
    clock = SystemClock()
    database = Database(settings.database_url, metrics=Metrics(), pool_size=1)
    try:
        await database.open()
    except ConfigurationError as problem:
        return [_unreachable(problem.message)]
    try:
        rows = await database.read(stored.read_accounts)
        has_sealed = any(_has_secrets(row["settings"]) for row in rows)
        findings = [
            machine.check_key_file(settings, has_sealed=has_sealed),
            await database.read(lambda connection: stored.check_clock(connection, clock)),
            await database.read(owners.check_owners),
            await database.read(stored.check_knowledge),
            *stored.check_accounts(rows, _box(settings, clock), Registry()),
            *await database.read(stored.check_people),
            await database.read(stored.check_dead_letters),
        ]
    except HuojiError as problem:
        return [_unreachable(problem.message)]
    finally:
        await database.close()
    return findings


def _box(settings: Settings, clock: SystemClock) -> SecretBox | None:
    """Return what opens secrets; None where there is no key, since an examination makes none."""
    if settings.secret_key is None and not key_file(settings).exists():
        return None
    try:
        return SecretBox(load_secret_key(settings, SystemIds(clock)).value)
    except ConfigurationError:
        return None


def _has_secrets(text: str) -> bool:
    values = orjson.loads(text).values()
    return any(
        SecretBox.is_sealed(one) for value in values for one in ([value] if isinstance(value, str) else value)
    )


def _unreachable(message: str) -> Finding:
    return error(
        "database", f"数据库不可用：{message}", f"the database can't be used: {message}",
        "检查 HUOJI_DATABASE_URL、文件权限，以及数据库是否在运行",
        "look at HUOJI_DATABASE_URL, at the file's permissions, and whether the database server runs",
    )  # fmt: skip
