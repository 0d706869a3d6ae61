"""Puts the project's virtual environment in order: `python scripts/setup.py [--dev]`.

Makes `.venv` when there is none, installs exactly what the lock file says (every file checked against its hash) and
then the project itself, editable, so that `.venv/bin/huoji` runs this checkout. Does nothing when that was already
done for the same lock. Needs only the standard library; uv does the work when it can, pip otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
PROGRAM = VENV / "bin" / "huoji"
STAMP = VENV / "huoji-setup.json"
RUN_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
OLDEST_PYTHON = (3, 11)


class SetupError(Exception):
    """Set-up can't go on; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring `.venv` in line with the locks; returns the exit status."""
    parser = argparse.ArgumentParser(description="Set up Huoji's virtual environment.")
    parser.add_argument("--dev", action="store_true", help="also install what the tests and checks need")
    dev: bool = parser.parse_args(arguments).dev
    try:
        with one_at_a_time():
            set_up(dev)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def set_up(dev: bool) -> None:
    """Make the environment, install the locked packages and the project; skip what is already in place.

    Raises SetupError when the environment can't be made or no installer succeeds.
    """
    wanted = fingerprint()
    stamp = read_stamp()
    if stamp.get("root", str(ROOT)) != str(ROOT):
        say("the checkout was moved: making a new environment")
        shutil.rmtree(VENV)
        stamp = {}
    if not environment_works():
        make_environment()
        stamp = {}
    enough = ["dev"] if dev else ["run", "dev"]
    if PROGRAM.exists() and any(stamp.get(level) == wanted for level in enough):
        return
    lock = DEV_LOCK if dev else RUN_LOCK
    install(lock)
    project = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    run_installer(project, "the project")
    level = "dev" if dev else "run"
    stamp = {"root": str(ROOT), **{key: stamp[key] for key in ("run", "dev") if stamp.get(key) == wanted}}
    write_stamp({**stamp, level: wanted})
    say(f"ready: {PROGRAM.relative_to(ROOT)}")


def install(lock: Path) -> None:
    """Install everything `lock` lists, after uv itself in the version that it pins."""
    if find_uv() is None:
        with contextlib.suppress(SetupError):
            install_uv()
    run_installer(["--require-hashes", "--requirement", str(lock)], lock.name)


def install_uv() -> None:
    """Let pip install the uv that the lock pins. Raises SetupError when pip can't; pip then does all the work."""
    pinned = pinned_lines(RUN_LOCK.read_text(encoding="utf-8"), "uv")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
        requirements.write(pinned)
        requirements.flush()
        arguments = ["--require-hashes", "--no-deps", "--requirement", requirements.name]
        if run(pip_command() + arguments) != 0:
            raise SetupError("pip could not install uv")


def pinned_lines(lock_text: str, package: str) -> str:
    """The lines of one package, with its hashes, out of a lock file's text."""
    kept: list[str] = []
    inside = False
    for line in lock_text.splitlines():
        if not line.startswith((" ", "#")):
            inside = line.startswith(f"{package}==")
        if inside:
            kept.append(line)
    return "\n".join(kept) + "\n"


def run_installer(arguments: Sequence[str], what: str) -> None:
    """Run `uv pip install`, and pip with the same arguments if uv is missing or fails.

    uv doesn't read pip's configuration, so it may not reach an index that pip reaches. Raises SetupError when both fail.
    """
    say(f"installing {what}")
    uv = find_uv()
    if uv is not None:
        command = [*uv, "pip", "install", "--quiet", "--python", str(VENV_PYTHON), *arguments]
        if run(command, uv_environment()) == 0:
            return
        say("uv could not do it; trying pip, which takes a minute or two")
    if run(pip_command() + list(arguments)) != 0:
        raise SetupError(f"could not install {what}: is a package index reachable? pip's message is above")


def pip_command() -> list[str]:
    """`pip install` into the environment: with its own pip, or this interpreter's when it was made without one.

    Raises SetupError when neither has pip.
    """
    if run([str(VENV_PYTHON), "-c", "import pip"], quiet=True) == 0:
        return [str(VENV_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if importlib.util.find_spec("pip") is not None:
        options = ["install", "--quiet", "--disable-pip-version-check"]
        return [sys.executable, "-m", "pip", "--python", str(VENV_PYTHON), *options]
    raise SetupError("there is no pip here (Debian: apt install python3-venv python3-pip)")


def find_uv() -> list[str] | None:
    """The command that runs uv: this environment's, the starting interpreter's, or one on the path."""
    own = VENV / "bin" / "uv"
    if own.exists():
        return [str(own)]
    if importlib.util.find_spec("uv") is not None:
        return [sys.executable, "-m", "uv"]
    found = shutil.which("uv")
    return [found] if found else None


def uv_environment() -> dict[str, str]:
    """This process's environment, with pip's certificate file also named the way uv reads it."""
    environment = dict(os.environ)
    if "PIP_CERT" in environment:
        environment.setdefault("SSL_CERT_FILE", environment["PIP_CERT"])
    environment.setdefault("UV_LINK_MODE", "copy")
    environment.setdefault("UV_HTTP_TIMEOUT", "120")
    return environment


def make_environment() -> None:
    """Make a fresh `.venv`. Raises SetupError when this Python brings no way to do so."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError("Python 3.11 or newer is needed")
    say(f"making .venv with Python {sys.version_info.major}.{sys.version_info.minor}")
    ways: list[list[str]] = [[sys.executable, "-m", "venv", "--clear", str(VENV)]]
    uv = find_uv()
    if uv is not None:
        ways.append([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
    ways.append([sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)])
    for way in ways:
        if run(way, quiet=True) == 0 and environment_works():
            return
    raise SetupError("could not make a virtual environment (Debian: apt install python3-venv)")


def environment_works() -> bool:
    """Whether `.venv` has an interpreter that starts and is new enough."""
    if not VENV_PYTHON.exists():
        return False
    check = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    return run([str(VENV_PYTHON), "-c", check], quiet=True) == 0


def fingerprint() -> str:
    """A hash over all that decides what gets installed."""
    digest = hashlib.sha256()
    for path in (RUN_LOCK, DEV_LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def read_stamp() -> dict[str, str]:
    """What the last successful set-up left behind; empty when there was none."""
    try:
        found = json.loads(STAMP.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def write_stamp(stamp: dict[str, str]) -> None:
    """Remember what is installed now."""
    STAMP.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let only one set-up work on this checkout; the kernel frees the lock when the process ends."""
    with Path(__file__).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str], environment: dict[str, str] | None = None, *, quiet: bool = False) -> int:
    """Run a command in the project's root and return its exit status."""
    sink = subprocess.DEVNULL if quiet else None
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=sink, stderr=sink, check=False
    ).returncode


def say(message: str) -> None:
    """One plain line of progress."""
    print(f"setup: {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
