"""The shape that the code keeps: what a channel consists of, who may know it, module sizes, silent imports."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
CHANNELS = APP / "channels"
MIGRATIONS = APP / "storage" / "migrations"
LONGEST_MODULE = 600

# Imports every module named on the command line and prints, as JSON, what any of them did to the world meanwhile.
IMPORT_ALL = """
import importlib, json, os, sys, traceback

FORBIDDEN = {
    "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.system", "os.posix_spawn", "shutil.rmtree",
    "socket.bind", "socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen",
    "tempfile.mkdtemp", "tempfile.mkstemp", "urllib.Request",
}
current = None
found = []

def watch(event, arguments):
    if current is None:
        return
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(flags, int) or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) == 0 or path == os.devnull:
            return
    elif event not in FORBIDDEN:
        return
    found.append(f"{current}: {event} {arguments!r}")

sys.addaudithook(watch)
for name in sys.argv[1:]:
    current = name
    try:
        importlib.import_module(name)
    except BaseException:
        found.append(f"{name}: {traceback.format_exc(limit=-3)}")
    current = None
print(json.dumps(found))
"""


def modules() -> list[Path]:
    return sorted(path for path in APP.rglob("*.py") if "_shipped" not in path.parts)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def channel_names() -> list[str]:
    return sorted(path.parent.name for path in CHANNELS.glob("*/__init__.py"))


def imported_names(path: Path) -> Iterator[str]:
    """Every dotted name that a module imports, and every string in it that spells out one of our modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.Constant(value=str(text)) if text.startswith("app.") and " " not in text:
                yield text
            case _:
                pass


def test_there_are_channels_to_check():
    assert "generic" in channel_names()


@pytest.mark.parametrize("name", channel_names())
def test_every_channel_brings_fixtures_a_contract_test_and_a_page(name: str):
    wanted = [f"tests/fixtures/{name}", f"tests/contract/test_{name}.py", f"docs/channels/{name}.md"]
    assert [path for path in wanted if not (ROOT / path).exists()] == []
    assert any((ROOT / "tests" / "fixtures" / name).iterdir()), "the fixtures folder is empty"


@pytest.mark.parametrize("name", channel_names())
def test_only_a_channel_itself_imports_its_modules(name: str):
    home = CHANNELS / name
    package = f"app.channels.{name}"
    strangers = [
        f"{path.relative_to(ROOT)} names {imported}"
        for path in modules()
        if home not in path.parents
        for imported in imported_names(path)
        if imported == package or imported.startswith(f"{package}.")
    ]
    assert strangers == []


def test_no_module_is_longer_than_600_lines():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules()
        if MIGRATIONS not in path.parents
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_MODULE} == {}


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in modules() if path.parent != MIGRATIONS / "versions"}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists()) == []


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "helper", "manager", "misc", "common", "stuff"}
    names = {
        str(path.relative_to(ROOT)): {path.stem, *path.relative_to(ROOT).parts[:-1]} for path in modules()
    }
    assert sorted(path for path, parts in names.items() if parts & vague) == []


def test_importing_a_module_opens_writes_and_starts_nothing():
    # Alembic's env and revisions are scripts that it runs, not modules that anybody imports.
    names = [module_name(path) for path in modules() if MIGRATIONS not in path.parents]
    names = [name for name in names if not name.endswith(".__main__")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUOJI_")}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        cwd=ROOT,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [], "modules act at import, or print"
