"""What the README tells to do works, word for word, in both languages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.docs.pages import ROOT, code_blocks
from tests.huoji_process import HuojiProcess
from tests.waiting import wait_until

READMES = {language: ROOT / name for language, name in (("en", "README.md"), ("zh", "README.zh-CN.md"))}


def read(language: str) -> str:
    """The README in one language."""
    return READMES[language].read_text("utf-8")


def shell(language: str) -> list[str]:
    """Its shell blocks without comments."""
    return [re.sub(r" *#.*$", "", block, flags=re.MULTILINE) for block in code_blocks(read(language), "sh")]


def test_both_languages_tell_the_same_commands_and_show_the_same_answers():
    assert shell("zh") == shell("en")
    assert code_blocks(read("zh"), "") == code_blocks(read("en"), "")


def test_both_languages_have_the_same_sections_and_links():
    links = {language: re.findall(r"\]\(([^)]+)\)", read(language)) for language in READMES}
    expected = {one for one in links["en"] if one != "README.zh-CN.md"}
    assert {one for one in links["zh"] if one != "README.md"} == expected
    sections = {language: len(re.findall(r"^## ", read(language), re.MULTILINE)) for language in READMES}
    assert sections["zh"] == sections["en"]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_a_first_shop_is_connected_by_what_the_readme_says(tmp_path: Path):
    set_up, serve, ask = [
        block for block in shell("en") if re.search(r"^(huoji|python3) ", block, re.MULTILINE)
    ]
    answer = next(block for block in code_blocks(read("en"), "") if block.startswith("webhook:"))
    assert serve.strip() == "huoji serve"
    folder = checkout(tmp_path)
    listen = processes.free_port()
    run(set_up.replace("127.0.0.1:9000", f"127.0.0.1:{listen}"), folder)
    with HuojiProcess(folder, environment={"HUOJI_DATABASE_URL": "sqlite:///var/huoji.db"}) as huoji:
        options = f" --listen {listen} --url {huoji.url}/webhooks/generic/my-shop-1"
        said = run(ask.strip() + options, folder)
        assert huoji.terminate() == 0
    assert said == answer


@pytest.mark.e2e
def test_the_demo_prints_what_the_readme_shows(tmp_path: Path):
    shown = next(block for block in code_blocks(read("en"), "") if "/sandbox/" in block)
    with HuojiProcess(tmp_path, command="demo", environment={"LANG": "C.UTF-8"}) as demo:
        lines = shown.replace(":8000/", f":{demo.port}/").split("\n")
        wait_until(lambda: "Ctrl+C" in demo.log, what="the demo to say that it is ready")
        printed = {re.sub(r" +", " ", line) for line in demo.log.split("\n")}
    assert [line for line in lines if re.sub(r" +", " ", line) not in printed] == []


def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a checkout after `make setup`."""
    folder = tmp_path / "huoji"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("docs", "knowledge"):
        (folder / name).symlink_to(ROOT / name)
    (programs / "python3").symlink_to(sys.executable)
    program = programs / "huoji"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m app.cli "$@"\n', "utf-8")
    program.chmod(0o755)
    return folder


def run(script: str, folder: Path) -> str:
    """Run shell lines in a folder until one fails; return what they printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUOJI_")}
    environment["PATH"] = f"{folder / '.venv' / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-ec", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
