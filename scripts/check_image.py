"""Builds and tries the image without a container engine: `python scripts/check_image.py [--keep] [--python PYTHON]`.

Goes through the Dockerfile in a clean folder that stands for the image's file system: copies what COPY would send, runs
every RUN step word for word, then starts the program as ENTRYPOINT and CMD say, asks the HEALTHCHECK and ends it by
STOPSIGNAL. A step that needs root or the operating system's packages is left out and named. What it can't show: the base
image, users and permissions, layers and volumes.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.dockerfile import (  # noqa: E402 - only now can it be found
    Instruction,
    Stage,
    context_files,
    expand,
    pairs,
    read_stages,
    words,
)

NEEDS_ROOT = re.compile(r"\b(apt-get|apk|useradd|groupadd|adduser|chown|setcap|su|sudo)\b")
LONGEST_STEP = 900.0
LONGEST_START = 60.0
LONGEST_STOP = 15.0
"""Seconds. The drain takes ten at most."""


class CheckError(Exception):
    """The image would not work; the message says what failed."""


class FileSystem:
    """A folder that stands for the image's root."""

    def __init__(self, root: Path, python: Path) -> None:
        self.root = root
        self._programs = root / "usr/local/bin"
        self._programs.mkdir(parents=True)
        for name in ("python", "python3"):
            (self._programs / name).symlink_to(python)

    def at(self, path: str) -> Path:
        """The folder's path of an absolute path of the image."""
        return self.root / path.lstrip("/")

    def value(self, text: str) -> str:
        """A value of ARG or ENV with absolute paths of the image turned into the folder's, also behind `sqlite:///`."""
        here = f"{self.root}/"
        return re.sub(r"(^|:|sqlite:///)/(?=\w)", lambda found: found[1] + here, text)

    def environment(self, values: dict[str, str]) -> dict[str, str]:
        """What a process of the image sees: this machine's way to packages, nothing else of its own."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_CERT")) or name.lower().endswith("_proxy")
        }
        path = f"{self._programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "HOME": str(self.root), "LANG": "C.UTF-8", **kept, **values}


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the Dockerfile; returns 0 when everything that can be run here works."""
    parser = argparse.ArgumentParser(description="Build and try the image without a container engine.")
    parser.add_argument("--keep", action="store_true", help="leave the folder behind")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="stands for the base image's"
    )
    chosen = parser.parse_args(arguments)
    _, stages = read_stages((ROOT / "Dockerfile").read_text("utf-8"))
    folder = Path(tempfile.mkdtemp(prefix="huoji-image-"))
    try:
        files = FileSystem(folder, chosen.python.resolve())
        skipped = [step for stage in stages[:-1] for step in build(stage, files)]
        shutil.rmtree(files.at("/src"))
        skipped += build(stages[-1], files)
        size = sum(path.stat().st_size for path in files.at("/opt").rglob("*") if path.is_file())
        say(f"installed: {size / 1e6:.0f} MB")
        try_out(stages[-1], files)
    except CheckError as error:
        say(f"FAILED: {error}")
        return 1
    finally:
        if chosen.keep:
            say(f"left behind: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for step in skipped:
        say(f"SKIPPED, NEEDS ROOT: {step}")
    say("the image's steps and its program work; base image, users and layers are for an engine to show")
    return 0


def build(stage: Stage, files: FileSystem) -> list[str]:
    """Carry out a stage; returns the steps that were left out.

    Raises:
        CheckError: a step failed, or COPY finds nothing.
    """
    values: dict[str, str] = {}
    folder = files.root
    skipped: list[str] = []
    for one in stage.instructions:
        match one.name:
            case "ARG" | "ENV":
                values |= {
                    name: files.value(expand(value, values)) for name, value in pairs(one.text).items()
                }
            case "WORKDIR":
                folder = files.at(one.text)
                folder.mkdir(parents=True, exist_ok=True)
            case "COPY":
                copy(one, files, folder)
            case "RUN" if NEEDS_ROOT.search(one.text):
                skipped.append(f"line {one.line}: {one.text}")
            case "RUN":
                say(f"line {one.line}: {one.text[:100]}")
                run(one, folder, files.environment(values))
            case _:
                pass
    return skipped


def copy(one: Instruction, files: FileSystem, folder: Path) -> None:
    """COPY from the checkout or from another stage; stages share the folder, so equal paths are there already."""
    *sources, target = one.text.split()
    if "from" in one.flags:
        if not files.at(sources[0]).exists():
            raise CheckError(f"line {one.line}: {sources[0]} isn't in the stage {one.flags['from']}")
        if sources != [target]:
            shutil.copytree(files.at(sources[0]), files.at(target), dirs_exist_ok=True)
        return
    base = files.at(target) if target.startswith("/") else folder / target
    for source in sources:
        found = context_files(ROOT, (ROOT / ".dockerignore").read_text("utf-8"), source)
        if not found:
            raise CheckError(f"line {one.line}: {source} isn't sent to the engine; look at .dockerignore")
        for path in found:
            inside = path.relative_to(source) if (ROOT / source).is_dir() else Path(path.name)
            destination = base / inside
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, destination)


def run(one: Instruction, folder: Path, environment: dict[str, str]) -> None:
    """Run a step as the engine would: by /bin/sh. Raises CheckError with the end of its output when it fails."""
    done = subprocess.run(
        ["/bin/sh", "-c", one.text], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=LONGEST_STEP, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise CheckError(f"line {one.line}: {one.text}\n{(done.stdout + done.stderr)[-3000:]}")


def try_out(stage: Stage, files: FileSystem) -> None:
    """Start the program as a container would, ask whether it is healthy, stop it. Raises CheckError."""
    values: dict[str, str] = {}
    for one in stage.all("ENV"):
        given = {"PATH": files.environment({})["PATH"], **values}
        values |= {name: files.value(expand(value, given)) for name, value in pairs(one.text).items()}
    environment = files.environment(values)
    folder = files.at(stage.all("WORKDIR")[-1].text)
    entry, command = words(stage.all("ENTRYPOINT")[-1].text), words(stage.all("CMD")[-1].text)
    program = shutil.which(entry[0], path=environment["PATH"])
    if program is None or not program.startswith(str(files.root)):
        raise CheckError(f"{entry[0]} isn't on the image's PATH")
    bare = subprocess.run(
        [program, *command], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=LONGEST_START, check=False,
    )  # fmt: skip
    if bare.returncode != 1 or "HUOJI_SECRET_KEY" not in bare.stderr:
        raise CheckError(
            f"without a secret key it should say so and end with 1: {bare.returncode} {bare.stderr}"
        )
    say("without a secret key: refuses to start, status 1")
    environment["HUOJI_SECRET_KEY"] = secrets.token_urlsafe(32)
    port = free_port()
    ours = [part.replace("8000", str(port)).replace("0.0.0.0", "127.0.0.1") for part in command]
    log = files.at("/server.log")
    began = time.monotonic()
    with log.open("wb") as output:
        server = subprocess.Popen(
            [program, *ours], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until_healthy(stage, server, environment, folder, port, log)
        say(f"healthy {time.monotonic() - began:.1f} s after the start")
        began = time.monotonic()
        server.send_signal(signal.Signals[stage.all("STOPSIGNAL")[-1].text])
        status = server.wait(LONGEST_STOP)
    except subprocess.TimeoutExpired:
        raise CheckError(
            f"still running {LONGEST_STOP:g} s after {stage.all('STOPSIGNAL')[-1].text}"
        ) from None
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    if status != 0:
        raise CheckError(f"stopped with status {status}:\n{log.read_text()[-2000:]}")
    say(f"stopped by its signal in {time.monotonic() - began:.1f} s with status 0")


def wait_until_healthy(
    stage: Stage,
    server: subprocess.Popen[bytes],
    environment: dict[str, str],
    folder: Path,
    port: int,
    log: Path,
) -> None:
    """Ask HEALTHCHECK until it says yes. Raises CheckError when the server ends or time runs out."""
    text = stage.all("HEALTHCHECK")[-1].text
    check = [part.replace("8000", str(port)) for part in words(text.partition("CMD ")[2])]
    program = shutil.which(check[0], path=environment["PATH"]) or check[0]
    until = time.monotonic() + LONGEST_START
    while time.monotonic() < until:
        if server.poll() is not None:
            raise CheckError(f"ended with {server.returncode}:\n{log.read_text()[-2000:]}")
        asked = subprocess.run(
            [program, *check[1:]], cwd=folder, env=environment, capture_output=True, timeout=10, check=False
        )
        if asked.returncode == 0:
            return
        time.sleep(0.2)
    raise CheckError(f"not healthy within {LONGEST_START:g} s:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def say(message: str) -> None:
    """One plain line of progress."""
    print(f"image: {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
