"""What every suite shares: the servers, the fakes, a closed network and a closing summary that hides nothing."""

from __future__ import annotations

import ipaddress
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from tests.fakes import FakeClock, FakeIds
from tests.missing import MISSING

pytest_plugins = ["tests.services"]

ROOT = Path(__file__).resolve().parent
LONG_RUN = os.environ.get("HUOJI_CHAOS_LONG") == "1"

# Slow machines must not fail a property for its speed; a longer look is for `make chaos-long`.
settings.register_profile("huoji", deadline=None, max_examples=1000 if LONG_RUN else 100, print_blob=True)
settings.load_profile("huoji")


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test advances it."""
    return FakeClock()


@pytest.fixture
def ids() -> FakeIds:
    """Ids that count up from 1."""
    return FakeIds()


def pytest_configure(config: pytest.Config) -> None:
    """Close the network and set the tests free of the machine's own Huoji settings."""
    for name in [
        name for name in os.environ if name.startswith("HUOJI_") and not name.startswith("HUOJI_CHAOS")
    ]:
        if name != "HUOJI_SUITE_REPORT":
            del os.environ[name]
    sys.addaudithook(_refuse_the_outside)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by folder and by what they ask for; leave the slow ones to `make chaos-long`."""
    by_fixture = {
        "page": "browser",
        "context": "browser",
        "browser": "browser",
        "postgres_server": "postgres",
        "redis_server": "redis",
    }
    for item in items:
        folder = item.path.relative_to(ROOT).parts[0] if item.path.is_relative_to(ROOT) else ""
        if folder in {"chaos", "e2e"}:
            item.add_marker(folder)
        fixtures = set(getattr(item, "fixturenames", ()))
        for fixture, marker in by_fixture.items():
            if fixture in fixtures:
                item.add_marker(marker)
    if not LONG_RUN:
        slow = [item for item in items if item.get_closest_marker("slow")]
        if slow:
            config.hook.pytest_deselected(items=slow)
            items[:] = [item for item in items if item not in slow]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in capitals which tests did not run because the machine lacks a program, and report to the suite runner."""
    lacking: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if MISSING in reason:
            lacking[reason.partition(MISSING)[2]] += 1
    if lacking:
        terminalreporter.section("NOT RUN", sep="!", red=True, bold=True)
        for program, number in sorted(lacking.items()):
            terminalreporter.line(f"{number} tests did not run for lack of {program}", red=True)
    target = os.environ.get("HUOJI_SUITE_REPORT")
    if target:
        counts = {kind: len(reports) for kind, reports in terminalreporter.stats.items() if kind}
        Path(target).write_text(json.dumps({"counts": counts, "lacking": lacking}), encoding="utf-8")


def _refuse_the_outside(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook that lets sockets reach this machine only, so that no test depends on a network."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            raise RuntimeError(f"a test tried to connect to {address[0]}; only loopback is allowed")
    elif event == "socket.getaddrinfo":
        host = arguments[0]
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if name is not None and not _is_loopback(str(name)) and not _is_address(str(name)):
            raise RuntimeError(f"a test tried to look up {name}; only loopback is allowed")


def _is_loopback(host: str) -> bool:
    if host in {"", "localhost"}:
        return True
    return _is_address(host) and (ipaddress.ip_address(host.split("%")[0]).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return True
