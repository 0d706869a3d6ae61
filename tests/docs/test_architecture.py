"""The architecture page keeps up with the folders and with the figures it names."""

from __future__ import annotations

import re

from app.delivery import outbox, retry, service
from app.desk import hub, presence
from app.main import DRAIN_SECONDS
from app.pipeline import backlog, lanes, partitions, shared_leases
from app.storage import writer
from tests.docs.pages import DOCS, ROOT

PAGE = (DOCS / "architecture.md").read_text("utf-8")
WORDS = re.sub(r"\s+", " ", PAGE)


def test_every_package_is_in_the_table_of_folders():
    packages = sorted(path.parent.name for path in (ROOT / "app").glob("*/__init__.py"))
    assert [name for name in packages if f"`app/{name}`" not in PAGE] == []


def test_the_figures_are_those_of_the_code():
    hour_ms, day_ms = 3_600_000, 86_400_000
    said = [
        f"{partitions.PARTITIONS} partitions",
        f"at most {writer.MAX_ROWS} jobs",
        f"last {lanes.CACHED_CONVERSATIONS:,} conversations",
        f"At most {backlog.MOST_WAITING:,} events",
        f"every {backlog.SWEEP_SECONDS:g} s",
        f"a lease of {shared_leases.LEASE_SECONDS:g} s",
        f"{shared_leases.LEASE_SECONDS - shared_leases.MARGIN_SECONDS:g} s after the last renewal began",
        f"At most {service.IN_FLIGHT_PER_ACCOUNT} requests",
        f"no answer in {service.SEND_TIMEOUT_SECONDS:g} s",
        f"from {retry.BASE_SECONDS:g} s doubling to {retry.CAP_SECONDS / 60:g} min",
        f"given up after {outbox.BOT_DEADLINE_MS / hour_ms:g} h, an agent's after {outbox.AGENT_DEADLINE_MS / hour_ms:g} h",
        f"{presence.GRACE_MS / 1000:g} s after the last socket closed",
        f"get {DRAIN_SECONDS:g} s",
    ]
    assert [words for words in said if words not in WORDS] == []
    days = hub.RETENTION_MS / day_ms
    assert days == 3, "the page says three days"
    assert lanes.MAX_TRIES == 3, "the page says three times"
