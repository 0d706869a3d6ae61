"""Dashboard and alert rules use what the program exports, and the runbook says what each alarm means."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric

from app.core.metrics import Metrics
from app.pipeline.partitions import PARTITIONS
from tests.missing import skip_for_lack_of
from tests.unit.deploy.manifests import DEPLOY, PORT, ROOT, documents

PROMETHEUS = DEPLOY / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "huoji.json").read_text("utf-8"))
(RULES,) = documents(PROMETHEUS / "alerts.yaml")
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]
FIRST_LABELS = {"job", "instance", "le", "alertname", "alertstate"}
"""Labels that Prometheus itself adds."""


def exported() -> dict[str, set[str]]:
    """Every name under which a figure is exported, with its labels."""
    names: dict[str, set[str]] = {}
    for attribute, collector in vars(Metrics()).items():
        if attribute == "registry":
            continue
        family: Metric
        for family in collector.describe():
            labels = set(collector._labelnames)
            match family.type:
                case "counter":
                    names[f"{family.name}_total"] = labels
                case "histogram":
                    names |= {f"{family.name}_{part}": labels for part in ("bucket", "count", "sum")}
                case _:
                    names[family.name] = labels
    return names


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield f"panel {panel['title']}", target["expr"]
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield f"variable {variable['name']}", variable["query"]


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_figure_that_is_asked_for_is_exported_with_those_labels(where: str, expression: str):
    known = exported()
    for name, selector in re.findall(r"\b(huoji_\w+)(?:\{([^}]*)\})?", expression):
        assert name in known, f"{where} asks for {name}"
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector))
        assert asked - known[name] - FIRST_LABELS == set(), (
            f"{where} asks {name} for labels that it hasn't got"
        )
    labels = {one for group in re.findall(r"by \(([^)]*)\)", expression) for one in re.split(r",\s*", group)}
    assert labels <= FIRST_LABELS | set().union(*known.values())


def test_outcomes_and_kinds_that_are_asked_for_are_those_of_the_page_of_metrics():
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    described = set(re.findall(r"`(\w+)`", page))
    for where, expression in expressions():
        for values in re.findall(r'(?:outcome|kind|change)=~?"([^"]*)"', expression):
            named = {one for one in values.split("|") if not one.endswith(".+")}
            assert named <= described, where


def test_every_metric_is_on_the_dashboard():
    shown = " ".join(expression for where, expression in expressions() if where.startswith("panel"))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported()}
    assert [family for family in families if family not in shown] == []


def test_a_bucket_that_is_asked_for_exists():
    text = " ".join(expression for _, expression in expressions())
    metrics = Metrics()
    metrics.reply_seconds.observe(1)
    for bound in re.findall(r'le="([^"]+)"', text):
        assert f'huoji_reply_seconds_bucket{{le="{bound}"}}' in metrics.render().decode()


def test_the_partitions_that_must_have_an_owner_are_all_of_them():
    (expression,) = [alert["expr"] for alert in ALERTS if alert["alert"] == "HuojiPartitionsWithoutOwner"]
    assert f"< {PARTITIONS}" in expression


def test_every_alarm_is_named_weighed_and_explained_in_the_runbook():
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    sections = dict(re.findall(r"^### (Huoji\w+)\n(.*?)(?=^##|\Z)", runbook, re.DOTALL | re.MULTILINE))
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)
    assert set(sections) == set(names)
    for alert in ALERTS:
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
        assert "**Means**" in sections[alert["alert"]], alert["alert"]
        assert "**Do**" in sections[alert["alert"]], alert["alert"]


def test_panels_have_names_explanations_and_places_of_their_own():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another"
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["description"] for panel in panels())


def test_the_dashboard_asks_whatever_source_is_chosen():
    sources = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert sources == {"${source}"}


def test_prometheus_asks_every_process_and_not_the_proxy():
    (config,) = documents(PROMETHEUS / "prometheus.yaml")
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "huoji", "alerts name the job"
    assert job["dns_sd_configs"] == [{"names": ["huoji"], "type": "A", "port": PORT}]
    assert "credentials_file" in job["authorization"]
    assert config["rule_files"] == ["alerts.yaml"]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        skip_for_lack_of("promtool", "Debian: apt install prometheus")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=PROMETHEUS)


def test_prometheus_takes_the_rules():
    done = promtool("check", "rules", "alerts.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_alarm_when_they_should_and_only_then():
    done = promtool("test", "rules", "alerts.test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboards_questions_are_ones_that_prometheus_understands(tmp_path: Path):
    rules = [
        {
            "record": f"panel:{number}",
            "expr": expression.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for number, (where, expression) in enumerate(expressions())
        if where.startswith("panel")
    ]
    file = tmp_path / "panels.json"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), "utf-8")
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
