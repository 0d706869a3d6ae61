"""What every command has in common: statuses, one line on stderr, no database where none is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__
from app.cli import output
from app.core.errors import ConfigurationError
from tests.unit.cli.conftest import Huoji

COMMANDS = [
    ["serve"], ["demo"], ["evaluate"], ["simulate"], ["doctor"],
    *(["db", name] for name in ("upgrade", "check")),
    *(["user", name] for name in ("add", "list", "passwd", "disable")),
    ["token", "create"],
    *(["account", name] for name in ("add", "list", "set", "pause", "resume", "remove")),
    *(["shop", name] for name in ("set", "import", "list")),
    *(["knowledge", name] for name in ("check", "import", "export", "publish", "rollback", "list")),
    ["channel", "list"],
    *(["delivery", name] for name in ("list", "replay")),
]  # fmt: skip
PAGE = Path(__file__).resolve().parents[3] / "docs" / "cli.md"


def test_the_version_is_printed(huoji: Huoji):
    done = huoji("--version")
    assert (done.status, done.out) == (0, f"huoji {__version__}\n")


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_every_command_has_help_and_leaves_nothing_behind(huoji: Huoji, folder: Path, command: list[str]):
    done = huoji(*command, "--help")
    assert done.status == 0
    assert "Usage: huoji" in done.out
    assert list(folder.iterdir()) == []


def test_the_command_line_starts_without_what_only_some_commands_need():
    code = "import sys, app.cli.program as p; p.build(); print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "aiohttp",
        "alembic",
        "asyncio",
        "fastapi",
        "numpy",
        "opencc",
        "pydantic",
        "rich",
        "sqlalchemy",
        "uvicorn",
    }
    assert heavy & set(done.stdout.split()) == set()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_described(command: list[str]):
    assert f"`huoji {' '.join(command)}" in PAGE.read_text("utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["user", "add"],
        ["user", "add", "anna", "--role", "king"],
        ["serve", "--port", "70000"],
        ["serve", "--nope"],
        ["evaluate"],
        ["account", "add", "generic", "a-1"],
        ["account", "add", "generic", "a-1", "--shop", "s-1", "--set", "callback_url"],
        ["account", "set", "a-1"],
        ["token", "create", "t", "--role", "admin", "--expires", "soon"],
        ["delivery", "replay"],
        ["delivery", "replay", "5", "--all"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_one_line(huoji: Huoji, arguments: list[str]):
    done = huoji(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.reason


def test_a_wrong_setting_is_status_1_and_one_line(huoji: Huoji, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HUOJI_BURST_QUIET", "soon")
    done = huoji("user", "list")
    assert done.status == 1
    assert "HUOJI_BURST_QUIET=2.5" in done.reason


@pytest.mark.parametrize("variable", ["HUOJI_DATABASE_URL", "HUOJI_NO_SUCH_THING"])
def test_what_needs_no_database_works_without_any(
    huoji: Huoji, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
):
    knowledge = tmp_path / "k.yaml"
    knowledge.write_text("- id: hours\n  question: 几点上班\n  answer: 您好，九点上班\n", "utf-8")
    monkeypatch.setenv(variable, "nonsense")
    assert huoji("channel", "list").status == 0
    assert huoji("knowledge", "check", knowledge).status == 0
    assert [path.name for path in tmp_path.iterdir()] == ["k.yaml"]


def test_our_own_bugs_are_one_line_too(huoji: Huoji, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("app.cli.channels.print_json", fail)
    done = huoji("channel", "list", "--json")
    assert done.status == 1
    assert done.reason.startswith("unexpected error, ZeroDivisionError: oops")


def test_a_message_of_several_lines_becomes_one(huoji: Huoji, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise ConfigurationError("first\n  second")

    monkeypatch.setattr("app.cli.channels.print_json", fail)
    assert huoji("channel", "list", "--json").reason == "first; second"


@pytest.mark.parametrize(
    ("environment", "spoken"),
    [
        ({}, ("zh", "en")),
        ({"LANG": "C.UTF-8"}, ("zh", "en")),
        ({"LANG": "zh_CN.UTF-8"}, ("zh",)),
        ({"LANG": "en_GB.UTF-8"}, ("en",)),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "zh_TW"}, ("zh",)),
        ({"LANG": "zh_CN.UTF-8", "HUOJI_LANG": "en"}, ("en",)),
    ],
)
def test_the_locale_chooses_the_language(environment: dict[str, str], spoken: tuple[str, ...]):
    assert output.languages(environment) == spoken


def test_tables_count_chinese_characters_as_two_places(capsys: pytest.CaptureFixture[str]):
    output.print_table(("A", "B"), [("售后", 1), ("vip", 22)])
    assert capsys.readouterr().out == "A     B\n售后  1\nvip   22\n"
