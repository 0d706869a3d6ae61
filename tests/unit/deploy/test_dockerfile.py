"""The image: pinned, without root, without secrets, starting what the program really offers."""

from __future__ import annotations

import re
import signal

import pytest

from scripts.check_image import NEEDS_ROOT
from scripts.dockerfile import context_files, pairs, words
from tests.unit.deploy.manifests import (
    PORT,
    ROOT,
    USER,
    command_problem,
    image_environment,
    is_pinned,
    probe_paths,
    settings_names,
    stages,
)

IGNORE = (ROOT / ".dockerignore").read_text("utf-8")


def test_both_stages_stand_on_the_same_pinned_image():
    images = {stage.image for stage in stages()}
    assert len(stages()) == 2
    assert len(images) == 1
    assert all(is_pinned(image) and "slim" in image for image in images)


def test_what_is_installed_is_what_the_lock_names_checked_by_hash():
    installs = [one.text for one in stages()[0].all("RUN") if " install " in one.text and "pip" in one.text]
    (dependencies, project) = installs
    assert "--require-hashes" in dependencies
    assert "--requirement requirements.lock" in dependencies
    assert "--no-deps" in project
    assert "--no-index" in project


def test_what_is_taken_away_again_is_in_the_lock_and_no_dependency_of_the_program():
    (removal,) = [one.text for one in stages()[0].all("RUN") if "uninstall" in one.text]
    names = set(re.findall(r"[a-z][a-z-]+", removal.split("--yes")[1].split("&&")[0]))
    lock = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    dependencies = project.split("dependencies = [")[1].split("[dependency-groups]")[0]
    assert names - lock == set()
    assert [name for name in names if re.search(rf'"{name}[>\["]', dependencies)] == []


def test_no_step_needs_root_or_an_engine_so_that_all_can_be_run_by_the_check():
    assert [one.text for stage in stages() for one in stage.all("RUN") if NEEDS_ROOT.search(one.text)] == []
    assert stages()[-1].all("RUN") == []


def test_the_program_runs_as_a_number_that_isnt_root_and_owns_its_data():
    last = stages()[-1]
    assert [one.text for one in last.all("USER")] == [f"{USER}:{USER}"]
    (volume,) = last.all("VOLUME")
    owned = [one.text.split()[-1] for one in last.all("COPY") if one.flags.get("chown") == f"{USER}:{USER}"]
    assert owned == [volume.text]
    assert image_environment()["HUOJI_DATABASE_URL"].startswith(f"sqlite:///{volume.text}/")
    assert image_environment()["HUOJI_MEDIA_DIR"].startswith(f"{volume.text}/")


def test_defaults_are_settings_that_there_are_and_none_is_a_secret():
    ours = {name for name in image_environment() if name.startswith("HUOJI_")}
    assert ours - settings_names() == set()
    assert ours & {"HUOJI_SECRET_KEY", "HUOJI_METRICS_TOKEN", "HUOJI_REDIS_URL"} == set()
    assert image_environment()["HUOJI_ENV"] == "production"
    given = {name for stage in stages() for one in stage.all("ARG") for name in pairs(one.text)}
    assert [name for name in given if re.search("SECRET|TOKEN|PASSWORD|KEY", name)] == []


def test_what_it_starts_is_a_command_on_the_port_it_exposes():
    last = stages()[-1]
    assert words(last.all("ENTRYPOINT")[-1].text) == ["huoji"]
    command = words(last.all("CMD")[-1].text)
    assert command_problem(command) is None
    assert command[command.index("--port") + 1] == last.all("EXPOSE")[-1].text == str(PORT)
    assert command[command.index("--host") + 1] == "0.0.0.0"


def test_it_is_stopped_by_the_signal_that_drains_and_asked_for_its_life_only():
    last = stages()[-1]
    assert signal.Signals[last.all("STOPSIGNAL")[-1].text] is signal.SIGTERM
    check = last.all("HEALTHCHECK")[-1].text
    assert words(check.partition("CMD ")[2])[0] == "python"
    asked = re.findall(r"'(/[a-z]+)'", check)
    assert asked == ["/healthz"]
    assert set(asked) <= probe_paths()
    assert f"{PORT}" in check


def test_labels_say_what_it_is():
    labels = {name for one in stages()[-1].all("LABEL") for name in pairs(one.text)}
    wanted = {"title", "description", "licenses", "version", "revision"}
    assert {f"org.opencontainers.image.{name}" for name in wanted} <= labels


@pytest.mark.parametrize(
    "source", [source for one in stages()[0].all("COPY") for source in one.text.split()[:-1]]
)
def test_everything_copied_is_sent_to_the_engine(source: str):
    assert context_files(ROOT, IGNORE, source)


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        "app/.env",
        "app/__pycache__/main.cpython-311.pyc",
        "app/debug.log",
        "deploy/compose.env.example",
        "huoji.db",
        "knowledge/huoji.key",
        "scripts/setup.py",
        "tests/conftest.py",
        "var/huoji.db",
    ],
)
def test_secrets_data_and_tests_are_not_sent(path: str, tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("checkout")
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("x", "utf-8")
    assert context_files(root, IGNORE, path) == []
