"""The files under `deploy/` and beside it, as the tests of this folder read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from ruamel.yaml import YAML
from starlette.routing import Route

from app.api.health import health_routes
from app.cli.program import build
from app.core.metrics import Metrics
from app.settings import PREFIX, Settings
from scripts.dockerfile import Stage, pairs, read_stages

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
USER = 10001
PORT = 8000


def documents(path: Path) -> list[Any]:
    """Every document of a YAML file."""
    return [one for one in YAML(typ="safe", pure=True).load_all(path.read_text("utf-8")) if one is not None]


def stages() -> list[Stage]:
    """The Dockerfile's stages."""
    return read_stages((ROOT / "Dockerfile").read_text("utf-8"))[1]


def image_environment() -> dict[str, str]:
    """The defaults that the image sets."""
    return {name: value for one in stages()[-1].all("ENV") for name, value in pairs(one.text).items()}


def settings_names() -> set[str]:
    """The variables that the program reads."""
    return {PREFIX + field.upper() for field in Settings.model_fields}


def probe_paths() -> set[str]:
    """The paths that answer without a token."""

    async def ready() -> dict[str, str]:
        return {}

    routes = health_routes(readiness=ready, metrics=Metrics(), metrics_token=None)
    return {route.path for route in routes if isinstance(route, Route)} - {"/metrics"}


def command_problem(arguments: list[str]) -> str | None:
    """Why the program would refuse these arguments as wrong usage; None when it wouldn't. Nothing is run."""
    command: Any = typer.main.get_command(build())
    rest = list(arguments)
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return f"no such command: {' '.join(arguments)}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    unknown = [word for word in rest if word.startswith("--") and word not in known]
    return f"no such option: {unknown}" if unknown else None


def seconds(text: str) -> float:
    """A duration of Docker's: `22s`, `1m30s`."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(ms|h|m|s)", text))


def is_pinned(image: str) -> bool:
    """Whether an image names a release: a digest, or a tag with a number in it."""
    name, _, tag = image.rpartition("/")[2].partition(":")
    return "@sha256:" in image or (bool(name) and bool(re.search(r"\d", tag)) and tag != "latest")


def pod_specs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod that the Kubernetes example makes, by kind."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        for one in documents(path):
            if one["kind"] in {"Deployment", "Job"}:
                yield one["kind"], one["spec"]["template"]["spec"]


def manifest(kind: str) -> dict[str, Any]:
    """The only object of one kind in the Kubernetes example."""
    (found,) = [
        one for path in sorted(KUBERNETES.glob("*.yaml")) for one in documents(path) if one["kind"] == kind
    ]
    return found
