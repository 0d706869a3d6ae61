"""A real nginx with the shipped configuration, where there is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests import processes
from tests.missing import skip_for_lack_of

PROXY = Path(__file__).resolve().parents[1] / "deploy" / "proxy"


def nginx() -> str:
    """The program; skips when there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return found or skip_for_lack_of("nginx", "Debian: apt install nginx")


def configure(folder: Path, *, listen: int, ports: tuple[int, int]) -> Path:
    """The shipped configuration with addresses of this machine: the listening port, the two servers, /tmp."""
    shutil.copytree(PROXY, folder)
    upstreams = (folder / "upstreams.conf").read_text("utf-8")
    upstreams = re.sub(r"^resolver .*$", "", upstreams, flags=re.MULTILINE)
    upstreams, times = re.subn(
        r"server huoji:8000 resolve (.*?);",
        lambda found: " ".join(f"server 127.0.0.1:{port} {found[1]};" for port in ports),
        upstreams,
    )
    assert times == 2
    (folder / "upstreams.conf").write_text(upstreams, "utf-8")
    plain = (folder / "servers" / "plain.conf").read_text("utf-8")
    (folder / "servers" / "plain.conf").write_text(plain.replace("8080", f"127.0.0.1:{listen}"), "utf-8")
    main = (folder / "nginx.conf").read_text("utf-8")
    (folder / "nginx.conf").write_text(main.replace("/tmp/", f"{folder}/"), "utf-8")
    return folder / "nginx.conf"


def directives() -> str:
    """As root nginx's workers would be `nobody`, who may not enter the test's folder."""
    return "daemon off;" + (" user root;" if os.geteuid() == 0 else "")


def start(folder: Path, *, listen: int, ports: tuple[int, int], log: Path) -> subprocess.Popen[bytes]:
    """Start nginx on loopback before two servers; skips when there is none. End it with SIGTERM."""
    program = nginx()
    config = configure(folder / "proxy", listen=listen, ports=ports)
    return processes.start(
        [program, "-e", "stderr", "-p", folder, "-c", config, "-g", directives()],
        log,
        directory=folder,
        end_signal="TERM",
    )
