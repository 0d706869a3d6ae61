"""The commands over a fresh embedded database."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.core.clock import SystemClock
from app.core.ids import SystemIds
from app.core.metrics import Metrics
from app.desk.auth import SessionService
from app.desk.login_limits import LoginLimits
from app.desk.passwords import Passwords
from app.storage.database import Database
from app.storage.schema import HEAD
from app.storage.time import shared_time
from tests.unit.cli.conftest import Huoji

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
ENTRY = (
    "- id: hours\n  question: 几点上班\n  variants: [你们几点上班, 客服几点在]\n  answer: 您好，九点上班\n"
)
URL = "sqlite:///var/huoji.db"


def stored(statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect("var/huoji.db")) as connection:
        return list(connection.execute(statement))


def change(statement: str) -> None:
    with closing(sqlite3.connect("var/huoji.db")) as connection, connection:
        connection.execute(statement)


# Database


def test_upgrade_makes_the_tables_and_check_says_so(huoji: Huoji):
    before = huoji("db", "check")
    assert before.status == 1
    assert "huoji db upgrade" in before.reason
    assert huoji("db", "upgrade").out == f"upgraded the database: empty → {HEAD}\n"
    assert huoji("db", "upgrade").out == f"the database is up to date ({HEAD})\n"
    assert huoji("db", "check").status == 0
    assert huoji("db", "check", "--json").json["state"] == "current"


def test_check_alone_makes_no_database(huoji: Huoji, folder: Path):
    assert huoji("db", "check", "--json").json["state"] == "absent"
    assert list(folder.iterdir()) == []


def test_a_newer_database_is_refused_by_every_command(huoji: Huoji):
    huoji("db", "upgrade")
    change("UPDATE alembic_version SET version_num = '9999'")
    for command in (["db", "upgrade"], ["db", "check"], ["user", "list"]):
        assert "was made by version" in huoji(*command).reason


def test_a_database_that_cannot_be_opened_is_named(
    huoji: Huoji, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "file").write_text("", "ascii")
    monkeypatch.setenv("HUOJI_DATABASE_URL", f"sqlite:///{folder / 'file' / 'huoji.db'}")
    done = huoji("user", "list")
    assert done.status == 1
    assert done.reason
    monkeypatch.setenv("HUOJI_DATABASE_URL", "postgresql://huoji:hunter2@127.0.0.1:1/huoji")
    done = huoji("user", "list")
    assert "127.0.0.1:1" in done.reason
    assert "hunter2" not in done.err


# People


def test_a_password_comes_from_stdin_less_one_newline(huoji: Huoji):
    done = huoji(
        "user",
        "add",
        "小美",
        "--role",
        "agent",
        "--group",
        "presale",
        "--password-stdin",
        stdin="correct horse\n",
    )
    assert (done.status, done.out) == (0, "added 小美 (agent)\n")
    [(hashed,)] = stored("SELECT password_hash FROM users")
    assert asyncio.run(Passwords().verify(str(hashed), "correct horse"))


def test_without_a_password_one_is_made_and_shown_once(huoji: Huoji):
    done = huoji("user", "add", "anna", "--role", "admin")
    password = done.out.splitlines()[1].removeprefix("password (shown once): ")
    [(hashed,)] = stored("SELECT password_hash FROM users")
    assert asyncio.run(Passwords().verify(str(hashed), password))


def test_people_are_listed_changed_and_closed(huoji: Huoji):
    huoji(
        "user",
        "add",
        "anna",
        "--role",
        "supervisor",
        "--max-load",
        "3",
        "--password-stdin",
        stdin="long enough",
    )
    [anna] = huoji("user", "list", "--json").json["items"]
    assert (anna["name"], anna["role"], anna["max_load"], anna["disabled"]) == (
        "anna",
        "supervisor",
        3,
        False,
    )
    assert huoji("user", "passwd", "anna", "--password-stdin", stdin="another one\n").status == 0
    assert huoji("user", "disable", "anna").status == 0
    assert huoji("user", "list", "--json").json["items"][0]["disabled"] is True
    assert huoji("user", "disable", "anna", "--undo").status == 0
    assert "anna" in huoji("user", "list").out


@pytest.mark.parametrize(
    ("arguments", "password", "said"),
    [
        (["add", "bert", "--role", "agent"], "short", "too short"),
        (["add", "bert", "--role", "agent", "--group", "presales"], "long enough", "presales"),
        (["add", "anna", "--role", "agent"], "long enough", "already"),
        (["passwd", "nobody"], "long enough", "nobody"),
    ],
)
def test_what_people_cannot_be_is_one_line(huoji: Huoji, arguments: list[str], password: str, said: str):
    huoji("user", "add", "anna", "--role", "agent", "--password-stdin", stdin="long enough")
    done = huoji("user", *arguments, "--password-stdin", stdin=password)
    assert done.status == 1
    assert said in done.reason


def test_a_token_is_shown_once_and_stored_hashed(huoji: Huoji):
    done = huoji("token", "create", "reports", "--role", "supervisor", "--expires", "1d")
    token = done.out.strip()
    assert token not in str(stored("SELECT * FROM sessions"))

    async def principal() -> str:
        database = Database(URL, metrics=Metrics())
        await database.open()
        try:
            clock, ids = SystemClock(), SystemIds(SystemClock())
            passwords = Passwords()
            limits = LoginLimits(database, now_of=shared_time(clock))
            sessions = SessionService(database, clock=clock, ids=ids, passwords=passwords, limits=limits)
            return (await sessions.resolve(token)).name
        finally:
            await database.close()

    assert asyncio.run(principal()) == "reports"


# Accounts and shops


def test_an_account_is_added_with_secrets_from_file_and_stdin(huoji: Huoji, folder: Path):
    (folder / "secret").write_text(SECRET + "\n", "ascii")
    done = huoji(
        "account", "add", "generic", "a-1", "--shop", "s-1", "--set", "secret=@secret", "--set", "secret=-",
        "--set", "callback_url=https://relay.example/", stdin=OTHER + "\n",
    )  # fmt: skip
    assert done.status == 0
    assert "/webhooks/generic/a-1" in done.out
    assert SECRET not in done.out + done.err
    [account] = huoji("account", "list", "--json").json["items"]
    assert account["settings"] == {"secret": ["***", "***"], "callback_url": "https://relay.example/"}
    assert SECRET not in str(stored("SELECT settings FROM accounts"))


def test_an_account_that_exists_is_status_1(huoji: Huoji):
    huoji("account", "add", "generic", "a-1", "--shop", "s-1")
    done = huoji("account", "add", "generic", "a-1", "--shop", "s-1")
    assert done.status == 1
    assert "already an account 'a-1'" in done.reason


def test_an_account_is_changed_paused_resumed_and_removed(huoji: Huoji):
    huoji("account", "add", "generic", "a-1", "--shop", "s-1")
    assert huoji("account", "set", "a-1", "callback_url=https://one.example/").status == 0
    assert huoji("account", "set", "a-1", "--set", "orders_url=https://two.example/").status == 0
    assert huoji("account", "pause", "a-1", "--reason", "stocktaking").status == 0
    assert "paused (stocktaking)" in huoji("account", "list").out
    assert huoji("account", "resume", "a-1").status == 0
    assert huoji("account", "remove", "a-1").status == 0
    assert huoji("account", "list", "--json").json == {"items": []}
    assert huoji("account", "remove", "a-1").status == 1


def test_a_private_address_needs_leave(huoji: Huoji, monkeypatch: pytest.MonkeyPatch):
    arguments = [
        "account",
        "add",
        "generic",
        "a-1",
        "--shop",
        "s-1",
        "--set",
        "callback_url=http://127.0.0.1:9/",
    ]
    assert "private network" in huoji(*arguments).reason
    monkeypatch.setenv("HUOJI_ALLOWED_PRIVATE_HOSTS", "127.0.0.1")
    assert huoji(*arguments).status == 0


def test_shop_settings_are_text_json_or_files(huoji: Huoji, folder: Path):
    (folder / "welcome").write_text("您好，欢迎光临\n", "utf-8")
    done = huoji(
        "shop",
        "set",
        "s-1",
        "welcome=@welcome",
        "burst_quiet=0",
        'hours={"presale": ["08:30-18:00"]}',
        "vip_tiers=gold",
    )
    assert done.status == 0
    [shop] = huoji("shop", "list", "--json").json["items"]
    assert shop["settings"]["welcome"] == "您好，欢迎光临"
    assert shop["settings"]["burst_quiet"] == 0
    assert shop["settings"]["hours"] == {"presale": ["08:30-18:00"]}
    assert huoji("shop", "set", "s-1", "welcome=null").status == 0
    assert "welcome" not in huoji("shop", "list", "--json").json["items"][0]["settings"]
    assert "did you mean" in huoji("shop", "set", "s-1", "burst_quite=1").reason


def test_a_shop_is_imported_from_a_scenario_or_yaml(huoji: Huoji, folder: Path):
    (folder / "shop.json").write_text('{"shop": {"name": "暖屿", "tz": "Asia/Shanghai"}}', "utf-8")
    (folder / "shop.yaml").write_text("shop_id: s-2\nname: 青禾\n", "utf-8")
    assert huoji("shop", "import", "shop.json", "--shop", "s-1").status == 0
    assert huoji("shop", "import", "shop.yaml").status == 0
    assert [(shop["id"], shop["name"]) for shop in huoji("shop", "list", "--json").json["items"]] == [
        ("s-1", "暖屿"),
        ("s-2", "青禾"),
    ]
    assert huoji("shop", "import", "none.json").status == 1
    assert "青禾" in huoji("shop", "list").out


# Knowledge


def test_knowledge_is_checked_imported_published_rolled_back_and_exported(huoji: Huoji, folder: Path):
    (folder / "k.yaml").write_text(ENTRY, "utf-8")
    assert huoji("knowledge", "check", "k.yaml").status == 0
    done = huoji("knowledge", "import", "k.yaml", "--publish", "--json")
    assert (done.json["added"], done.json["version"]) == (1, 1)
    assert huoji("knowledge", "publish", "--note", "again").out == "published version 2\n"
    assert huoji("knowledge", "rollback").out == "version 1 is in service\n"
    assert huoji("knowledge", "rollback", "2").status == 0
    assert "no knowledge version 9" in huoji("knowledge", "rollback", "9").reason
    versions = huoji("knowledge", "list", "--json").json["items"]
    assert [(one["version"], one["in_service"]) for one in versions] == [(2, True), (1, False)]
    assert "in service" in huoji("knowledge", "list").out
    assert huoji("knowledge", "export", "out").status == 0
    assert [path.name for path in (folder / "out").iterdir()] == ["k.yaml"]


def test_a_wrong_file_is_refused_whole_with_file_and_line(huoji: Huoji, folder: Path):
    (folder / "good.yaml").write_text(ENTRY, "utf-8")
    (folder / "bad.yaml").write_text("- id: a\n  question: 问\n  answr: 答\n", "utf-8")
    for command in (["check"], ["import"]):
        done = huoji("knowledge", *command, "good.yaml", "bad.yaml")
        assert done.status == 1
        assert "bad.yaml:3" in done.out
        assert "bad.yaml:3" in done.reason
    problems = huoji("knowledge", "check", "bad.yaml", "--json").json["problems"]
    assert (problems[0]["file"], problems[0]["line"]) == ("bad.yaml", 3)
    assert "no entries" in huoji("knowledge", "publish").reason


def test_going_back_without_an_earlier_version_is_refused(huoji: Huoji, folder: Path):
    assert "no earlier version" in huoji("knowledge", "rollback").reason
    (folder / "k.yaml").write_text(ENTRY, "utf-8")
    huoji("knowledge", "import", "k.yaml", "--publish")
    assert "no earlier version" in huoji("knowledge", "rollback").reason


# Channels, evaluation, deliveries


def test_channels_are_listed_with_what_they_can_do(huoji: Huoji):
    items = {item["channel"]: item for item in huoji("channel", "list", "--json").json["items"]}
    assert set(items["generic"]) == {"channel", "chat_in", "chat_out", "events", "orders", "tier"}
    assert items["generic"]["chat_in"] == "webhook"
    assert "generic" in huoji("channel", "list").out


def test_evaluation_prints_the_figures_and_writes_predictions(huoji: Huoji, folder: Path):
    (folder / "kb.jsonl").write_text(
        '{"intent": "hours", "text": "几点上班"}\n{"intent": "hours", "text": "客服几点在"}\n'
        '{"intent": "ship", "text": "什么时候发货"}\n{"intent": "ship", "text": "多久发货"}\n',
        "utf-8",
    )
    (folder / "q.jsonl").write_text(
        '{"text": "你们几点上班呀", "intent": "hours"}\n{"text": "嗯", "intent": null, "ambiguous": true}\n'
        '{"text": " 月亮上有兔子吗 ", "intent": null}\n',
        "utf-8",
    )
    done = huoji("evaluate", "--kb", "kb.jsonl", "--queries", "q.jsonl", "--json", "--predictions", "p.jsonl")
    assert done.status == 0
    assert (done.json["queries"], done.json["in_scope"], done.json["out_of_scope"]) == (2, 1, 1)
    assert set(done.json["micros_per_query"]) == {"p50", "p99"}
    lines = (folder / "p.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert '" 月亮上有兔子吗 "' in lines[1]
    assert "top1" in huoji("evaluate", "--kb", "kb.jsonl", "--queries", "q.jsonl").out


@pytest.mark.parametrize(
    ("kb", "said"),
    [
        ("{", "kb.jsonl:1: no JSON"),
        ("[1]", "kb.jsonl:1: must be one JSON object"),
        ('{"text": "a"}', "kb.jsonl: line 1"),
    ],
)
def test_data_that_cannot_be_evaluated_is_named_with_its_line(huoji: Huoji, folder: Path, kb: str, said: str):
    (folder / "kb.jsonl").write_text(kb, "utf-8")
    (folder / "q.jsonl").write_text('{"text": "a", "intent": null}', "utf-8")
    assert said in huoji("evaluate", "--kb", "kb.jsonl", "--queries", "q.jsonl").reason


def put_dead_letter() -> None:
    change(
        "INSERT INTO shops (id, name, settings, created_at_ms, updated_at_ms) VALUES ('s-1', 's', '{}', 0, 0)"
    )
    change(
        "INSERT INTO accounts (id, channel, shop_id, settings, created_at_ms, updated_at_ms) "
        "VALUES ('a-1', 'generic', 's-1', '{}', 0, 0)"
    )
    change(
        "INSERT INTO conversations (id, account_id, external_id, shop_id, channel, buyer_id, buyer_external_id, "
        '"partition", state, stage, version, memory, last_seq, created_at_ms, updated_at_ms) '
        "VALUES (7, 'a-1', 'c-1', 's-1', 'generic', 1, 'b-1', 0, 'bot', 'presale', 1, '{}', 1, 0, 0)"
    )
    change(
        'INSERT INTO outbox (id, conversation_id, account_id, "partition", message_id, author, supersedable, payload, '
        "state, attempts, next_attempt_at_ms, deadline_ms, error, created_at_ms, done_at_ms) "
        "VALUES (5, 7, 'a-1', 0, 9, 'bot', 0, '{}', 'failed', 3, 0, 0, 'HTTP 404', 0, 1)"
    )


def test_dead_letters_are_listed_and_sent_again(huoji: Huoji):
    huoji("db", "upgrade")
    put_dead_letter()
    [item] = huoji("delivery", "list", "--json").json["items"]
    assert (item["id"], item["conversation_external_id"], item["error"]) == ("5", "c-1", "HTTP 404")
    assert "HTTP 404" in huoji("delivery", "list", "--account", "a-1").out
    assert "no undelivered reply" in huoji("delivery", "replay", "6").reason
    assert huoji("delivery", "replay", "--all").out == "1 replies are on their way again\n"
    assert stored("SELECT state, attempts FROM outbox") == [("open", 3)]
    assert stored("SELECT value FROM revisions WHERE name = 'outbox'") == [(1,)]
    assert huoji("delivery", "list", "--json").json == {"items": []}
