"""The doctor: every fault is found, told in both languages, and comes with the way to mend it."""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.cli.checks import machine
from app.cli.checks.finding import Level
from app.storage.filelock import FileLock, LockHolder
from tests.processes import free_port
from tests.unit.cli.conftest import Done, Huoji
from tests.unit.cli.test_commands import ENTRY, put_dead_letter

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def found(done: Done) -> Mapping[str, dict[str, Any]]:
    """Findings by check; whatever is wrong says how to mend it, in both languages."""
    findings = done.json["findings"]
    for finding in findings:
        assert finding["message"]["zh"]
        assert finding["message"]["en"]
        assert (finding["mend"] is not None) == (finding["level"] in ("error", "warning"))
    assert done.json["ok"] is (done.status == 0)
    return {finding["check"]: finding for finding in findings}


def level(huoji: Huoji, check: str) -> str | None:
    finding = found(huoji("doctor", "--json")).get(check)
    return None if finding is None else finding["level"]


def change(statement: str) -> None:
    with closing(sqlite3.connect("var/huoji.db")) as connection, connection:
        connection.execute(statement)


@pytest.fixture
def healthy(huoji: Huoji, folder: Path) -> None:
    """An installation with nothing wrong."""
    (folder / "k.yaml").write_text(ENTRY, "utf-8")
    huoji("knowledge", "import", "k.yaml", "--publish")
    huoji("account", "add", "generic", "a-1", "--shop", "s-1", "--set", f"secret={SECRET}",
          "--set", "callback_url=https://relay.example/")  # fmt: skip
    for name, role in (("anna", "supervisor"), ("bert", "agent")):
        huoji("user", "add", name, "--role", role, "--password-stdin", stdin="long enough")


@pytest.mark.usefixtures("healthy")
def test_a_healthy_installation_passes(huoji: Huoji):
    done = huoji("doctor", "--json")
    assert done.status == 0
    assert {finding["level"] for finding in done.json["findings"]} <= {"ok", "skipped"}
    assert found(done)["clock"]["level"] == "skipped"
    assert huoji("doctor").out.endswith("0 errors, 0 warnings\n")


def test_a_fresh_folder_lacks_tables_and_stays_as_it_is(huoji: Huoji, folder: Path):
    done = huoji("doctor", "--json")
    assert done.status == 1
    assert done.reason == "1 of the findings must be mended"
    assert found(done)["schema"]["mend"]["en"] == "huoji db upgrade"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("revision", ["0000", "9999"])
def test_other_tables_than_ours_are_found(huoji: Huoji, monkeypatch: pytest.MonkeyPatch, revision: str):
    huoji("db", "upgrade")
    monkeypatch.setattr("app.storage.schema.REVISIONS", ("0000", "0001"))
    change(f"UPDATE alembic_version SET version_num = '{revision}'")
    assert level(huoji, "schema") == "error"


def test_an_unreachable_database_is_found(huoji: Huoji, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HUOJI_DATABASE_URL", "postgresql://huoji:hunter2@127.0.0.1:1/huoji")
    done = huoji("doctor", "--json")
    assert found(done)["database"]["level"] == "error"
    assert "hunter2" not in done.out


def test_wrong_settings_are_found(huoji: Huoji, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HUOJI_BURST_QUIET", "soon")
    assert level(huoji, "settings") == "error"


@pytest.mark.usefixtures("healthy")
def test_a_missing_key_in_production_is_found_and_the_rest_is_looked_at(
    huoji: Huoji, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HUOJI_ENV", "production")
    findings = found(huoji("doctor", "--json"))
    assert "HUOJI_SECRET_KEY" in findings["settings"]["message"]["en"]
    assert findings["knowledge"]["level"] == "ok"


@pytest.mark.usefixtures("healthy")
def test_a_running_server_is_information(huoji: Huoji, folder: Path):
    with FileLock(folder / "var" / "huoji.db"):
        done = huoji("doctor", "--json")
    assert done.status == 0
    assert f"pid {os.getpid()}" in found(done)["server"]["message"]["en"]


def test_a_server_of_another_machine_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "lock_holder", lambda _: LockHolder(7, "elsewhere"))
    finding = machine.check_server(tmp_path / "huoji.db")
    assert finding.level is Level.WARNING
    assert "pid 7 on elsewhere" in finding.en


@pytest.mark.usefixtures("healthy")
def test_a_lost_key_is_found(huoji: Huoji, folder: Path):
    key = folder / "var" / "huoji.key"
    kept = key.read_text("ascii")
    key.unlink()
    assert level(huoji, "secret_key") == "error"
    assert not key.exists()
    key.write_text(kept[::-1].strip() + "\n", "ascii")
    key.chmod(0o600)
    assert level(huoji, "account_unreadable") == "error"
    key.write_text(kept, "ascii")
    key.chmod(0o644)
    assert level(huoji, "secret_key") == "error"


@pytest.mark.usefixtures("healthy")
def test_no_knowledge_in_service_is_found(huoji: Huoji):
    change("UPDATE knowledge_current SET version = 0")
    assert level(huoji, "knowledge") == "error"


@pytest.mark.usefixtures("healthy")
@pytest.mark.parametrize(
    ("arguments", "check", "how_bad"),
    [
        (["account", "set", "a-1", "callback_url="], "account_callback", "error"),
        (["account", "set", "a-1", "secret="], "account_secret", "error"),
        (["account", "pause", "a-1"], "account_paused", "warning"),
        (["user", "disable", "bert"], "group_empty", "warning"),
    ],
)
def test_accounts_and_groups_that_cannot_work_are_found(
    huoji: Huoji, arguments: list[str], check: str, how_bad: str
):
    assert huoji(*arguments).status == 0
    assert level(huoji, check) == how_bad


def test_nobody_at_all_is_found(huoji: Huoji):
    huoji("db", "upgrade")
    assert level(huoji, "people") == "warning"
    assert level(huoji, "accounts") == "info"


def test_dead_letters_are_found(huoji: Huoji):
    huoji("db", "upgrade")
    put_dead_letter()
    assert level(huoji, "dead_letters") == "warning"


@pytest.mark.parametrize(("free", "how_bad"), [(10**8, "error"), (5 * 10**8, "warning"), (10**10, "ok")])
def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, how_bad: str):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert machine.check_disk(tmp_path / "not" / "there").level == how_bad


@pytest.mark.usefixtures("healthy")
def test_a_database_open_to_others_is_found_in_production(
    huoji: Huoji, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HUOJI_ENV", "production")
    monkeypatch.setenv("HUOJI_SECRET_KEY", (folder / "var" / "huoji.key").read_text("ascii").strip())
    (folder / "var").chmod(0o755)
    (folder / "var" / "huoji.db").chmod(0o644)
    assert level(huoji, "files") == "warning"
    (folder / "var").chmod(0o700)
    assert level(huoji, "files") == "ok"


def test_a_folder_that_cannot_be_made_is_found(huoji: Huoji, folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "file").write_text("", "ascii")
    monkeypatch.setenv("HUOJI_MEDIA_DIR", str(folder / "file" / "media"))
    assert level(huoji, "files") == "error"


@pytest.mark.usefixtures("healthy")
def test_both_languages_are_spoken_where_none_is_chosen(huoji: Huoji, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HUOJI_LANG")
    monkeypatch.setenv("LC_ALL", "C")
    lines = huoji("doctor").out.splitlines()
    assert lines[0].startswith("✓ 设置正确")
    assert lines[1].startswith("✓ the settings are in order")


@pytest.mark.usefixtures("healthy")
def test_a_redis_that_cannot_be_used_is_a_warning_without_its_password(
    huoji: Huoji, monkeypatch: pytest.MonkeyPatch
):
    assert level(huoji, "redis") == "skipped"
    monkeypatch.setenv("HUOJI_REDIS_URL", f"redis://:s3cret@127.0.0.1:{free_port()}/0")

    done = huoji("doctor", "--json")

    assert found(done)["redis"]["level"] == "warning"
    assert done.status == 0
    assert "s3cret" not in done.out


@pytest.mark.redis
@pytest.mark.usefixtures("healthy")
def test_a_redis_that_answers_is_in_order(huoji: Huoji, monkeypatch: pytest.MonkeyPatch, redis_url: str):
    monkeypatch.setenv("HUOJI_REDIS_URL", redis_url)

    assert level(huoji, "redis") == "ok"


@pytest.mark.usefixtures("healthy")
def test_a_broken_page_of_the_database_is_found_with_the_way_back(huoji: Huoji, folder: Path):
    file = folder / "var" / "huoji.db"
    with closing(sqlite3.connect(file)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'outbox'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as pages:
        pages.seek((page - 1) * size)
        pages.write(b"\xa5" * size)

    done = huoji("doctor", "--json")

    assert done.status == 1
    finding = found(done)["database_damaged"]
    assert finding["level"] == "error"
    for said in finding["mend"].values():
        assert "huoji.db-wal" in said
        assert ".recover" in said


@pytest.mark.usefixtures("healthy")
def test_a_log_that_has_grown_is_a_warning(huoji: Huoji, folder: Path):
    assert level(huoji, "database_log") == "ok"
    with (folder / "var" / "huoji.db-wal").open("wb") as log:
        log.truncate(256 * 1024 * 1024)
    assert level(huoji, "database_log") == "warning"
