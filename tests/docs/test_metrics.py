"""The metrics' page is in step with the metrics."""

from __future__ import annotations

import re

from prometheus_client import Metric

from app.core.metrics import Metrics
from tests.docs.pages import DOCS, ROOT, table_rows


def test_the_page_lists_every_metric_with_its_type_and_labels():
    page = (DOCS / "metrics.md").read_text("utf-8")
    listed = {
        cells[0].strip("`"): (cells[1], tuple(re.findall(r"`(\w+)`", cells[2])))
        for cells in table_rows(page)
        if len(cells) == 4 and cells[0].startswith("`huoji_")
    }
    assert listed == described(Metrics())


def test_alarms_name_metrics_that_there_are():
    page = (DOCS / "metrics.md").read_text("utf-8")
    known = set(described(Metrics()))
    named = {name.removesuffix("_bucket") for name in re.findall(r"huoji_\w+", page)}
    assert named - known == set()


def test_every_metric_is_fed_by_the_code():
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "app").rglob("*.py"))
    names = [name for name in vars(Metrics()) if name != "registry"]
    assert [name for name in names if not re.search(rf"metrics\.{name}\b", code)] == []


def described(metrics: Metrics) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Every metric by the name it is exported under: its type and its labels."""
    collectors = [one for name, one in vars(metrics).items() if name != "registry"]
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for collector in collectors:
        family: Metric
        for family in collector.describe():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, tuple(collector._labelnames))
    return found
