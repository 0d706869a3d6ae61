"""The real program and a real browser.

Tests of pages use playwright's own fixtures (`page`, `context`), which are synchronous and can't share a process with
pytest-asyncio's loop: `make e2e` therefore runs the tests marked `browser` by themselves.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.huoji_process import HuojiProcess
from tests.missing import skip_for_lack_of

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Without a sandbox, since the tests may run as root in a container; without anything that calls home.
_BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """How playwright starts the system's own Chromium; skips when there is none."""
    found = next((path for path in map(shutil.which, _BROWSERS) if path), None)
    if found is None:
        skip_for_lack_of("Chromium", "Debian: apt install chromium fonts-noto-cjk")
    return {"executable_path": found, "args": _BROWSER_ARGUMENTS, "headless": True}


@pytest.fixture(scope="session")
def browser_context_args() -> dict[str, Any]:
    """A desktop window of a Chinese user."""
    return {"locale": "zh-CN", "timezone_id": "Asia/Shanghai", "viewport": {"width": 1440, "height": 900}}


@pytest.fixture
def huoji(tmp_path: Path) -> Iterator[Callable[..., HuojiProcess]]:
    """Makes programs that are killed at the test's end: `huoji(command="demo")` gives one, not yet started."""
    made: list[HuojiProcess] = []

    def make(**options: Any) -> HuojiProcess:
        process = HuojiProcess(tmp_path / f"huoji-{len(made) + 1}", **options)
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HuojiProcess]:
    """One running `huoji demo` for the tests that only look and talk."""
    with HuojiProcess(tmp_path_factory.mktemp("demo"), command="demo") as process:
        yield process
