"""The servers under test: how each is set up, started and stopped.

Every server runs as one process of its own on a free port of 127.0.0.1 and writes its output into
the work folder. :class:`Huoji` is driven by its public commands only.
"""

import contextlib
import copy
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.knowledge import entries, write_list, write_yaml
from benchmarks.signing import encode_secret

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 30.0
STOP_SECONDS = 20.0


class SetupError(Exception):
    """A server or one of its commands didn't do what was asked; the message holds its last output."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all systems share: the work folder, the account's secret, the knowledge."""

    folder: Path
    secret: str
    receiver_port: int
    knowledge: Path
    variants: Path

    @property
    def callback(self) -> str:
        """Where replies go."""
        return f"http://127.0.0.1:{self.receiver_port}/replies"


def open_workshop(folder: Path, receiver_port: int) -> Workshop:
    """Write the knowledge into ``folder`` and return the workshop."""
    folder.mkdir(parents=True, exist_ok=True)
    known = entries()
    write_yaml(known, folder / "knowledge")
    write_list(known, folder / "variants.json")
    key = secrets.token_bytes(32)
    return Workshop(folder, encode_secret(key), receiver_port, folder / "knowledge", folder / "variants.json")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server process that can be started and stopped again and again."""

    def __init__(self, name: str, workshop: Workshop) -> None:
        self.name = name
        self.workshop = workshop
        self.port = free_port()
        self.path = "/webhooks/generic/bench"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Do once what must be done before the first start."""

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return the environment of the server and its commands."""
        return {**os.environ, "PYTHONPATH": str(ROOT)}

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise SetupError(f"{self.name} is not running")
        return self._process.pid

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.workshop.folder / f"{self.name}.log"

    def spawn(self) -> float:
        """Start the process and return the monotonic time just before."""
        with self.log.open("ab") as output:
            before = time.monotonic()
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.workshop.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return before

    def start(self) -> None:
        """Start the process and wait until it takes connections."""
        self.spawn()
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            self.check_alive()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise SetupError(f"{self.name} took no connection in {READY_SECONDS:.0f} s:\n{self.tail()}")

    def check_alive(self) -> None:
        """Raise SetupError when the process has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise SetupError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")

    def stop(self) -> None:
        """Ask the process to stop, and kill it when it doesn't in time."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the process at once, as a crash would (SIGKILL)."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def tail(self) -> str:
        """Return the end of its output."""
        return self.log.read_text("utf-8", "replace")[-2_000:] if self.log.exists() else ""


class Baseline(Server):
    """A comparison server of ``benchmarks/baselines``."""

    def __init__(self, name: str, module: str, workshop: Workshop, *, answers: bool = False) -> None:
        """Take the module's name; ``answers`` says that it matches and replies."""
        super().__init__(name, workshop)
        self._module = module
        self._answers = answers

    def command(self) -> list[str]:
        """Run the module."""
        shared = [
            sys.executable,
            "-m",
            self._module,
            "--port",
            str(self.port),
            "--secret",
            self.workshop.secret,
        ]
        if not self._answers:
            return shared
        return [
            *shared,
            "--variants",
            str(self.workshop.variants),
            "--callback",
            self.workshop.callback,
        ]


class Huoji(Server):
    """``huoji serve`` with two shops: one answers, one (mode ``off``) only stores and acknowledges."""

    SHOP_SETTINGS = (
        # No greeting, merging or pace guard: one message, one decision, one reply, however fast.
        "welcome=",
        "burst_quiet=0",
        "loop_guard=0",
        "repeat_guard=off",
    )

    def __init__(
        self, program: Path, workshop: Workshop, database_url: str | None, redis_url: str | None = None
    ) -> None:
        super().__init__("huoji", workshop)
        self._redis_url = redis_url
        self._program = program
        # Names of their own in each run, so that a PostgreSQL database may be used again.
        suffix = secrets.token_hex(3)
        self._shop, self._silent_shop = f"bench-{suffix}", f"bench-off-{suffix}"
        self.path = f"/webhooks/generic/{self._shop}"
        self.silent_path = f"/webhooks/generic/{self._silent_shop}"
        self._database_url = database_url or f"sqlite:///{workshop.folder / 'huoji.db'}"

    def prepare(self) -> None:
        """Make the database, the knowledge, the shops and their accounts."""
        self.run("db", "upgrade")
        self.run("knowledge", "import", str(self.workshop.knowledge), "--publish")
        for shop, mode in ((self._shop, "auto"), (self._silent_shop, "off")):
            self.run(
                "account", "add", "generic", shop, "--shop", shop,
                "--set", f"secret={self.workshop.secret}",
                "--set", f"callback_url={self.workshop.callback}",
            )  # fmt: skip
            self.run("shop", "set", shop, f"mode={mode}", *self.SHOP_SETTINGS)

    def sibling(self, name: str) -> "Huoji":
        """Return one more process of the same shops over the same database."""
        made = copy.copy(self)
        made.name, made.port = name, free_port()
        return made

    def command(self) -> list[str]:
        """Run the server."""
        return [str(self._program), "serve", "--host", "127.0.0.1", "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        """Point the program at the benchmark's database and allow loopback callbacks."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HUOJI_")}
        return {
            **kept,
            "HUOJI_DATABASE_URL": self._database_url,
            "HUOJI_MEDIA_DIR": str(self.workshop.folder / "media"),
            "HUOJI_ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
            "HUOJI_BURST_QUIET": "0",
            **({"HUOJI_REDIS_URL": self._redis_url} if self._redis_url else {}),
        }

    def run(self, *arguments: str) -> None:
        """Run one command of the program to its end."""
        done = subprocess.run(
            [str(self._program), *arguments],
            cwd=self.workshop.folder,
            env=self.environment(),
            capture_output=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).decode("utf-8", "replace")[-2_000:]
            raise SetupError(f"huoji {arguments[0]} {arguments[1]} ended with {done.returncode}:\n{said}")


class Receiver:
    """The receiver process and its control requests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.receiver"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.port = int(json.loads(self._process.stdout.readline())["port"])

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()
