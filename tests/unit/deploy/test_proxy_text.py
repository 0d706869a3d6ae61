"""The proxy's configuration against the program: routes, limits and pings. How it behaves is tests/contract/test_proxy.py."""

from __future__ import annotations

import re

from app.api.http import SOCKET_PATH
from app.settings import load_settings
from tests.unit.deploy.manifests import DEPLOY, PORT, ROOT, documents

ROUTES = (DEPLOY / "proxy" / "routes.conf").read_text("utf-8")
UPSTREAMS = (DEPLOY / "proxy" / "upstreams.conf").read_text("utf-8")


def location(path: str) -> str:
    """The block of one location."""
    found = re.search(rf"^location {re.escape(path)} \{{(.*?)^\}}", ROUTES, re.DOTALL | re.MULTILINE)
    assert found is not None, path
    return found[1]


def test_every_process_of_the_service_is_reached_by_its_name_and_port():
    servers = re.findall(r"^    server (\S+) resolve", UPSTREAMS, re.MULTILINE)
    (compose,) = documents(ROOT / "compose.yaml")
    assert set(servers) == {f"huoji:{PORT}"}
    assert "huoji" in compose["services"]
    assert "ip_hash" not in UPSTREAMS, "nobody is tied to a process"
    assert "sticky" not in UPSTREAMS, "nobody is tied to a process"


def test_only_webhooks_are_posted_again_once_seen():
    assert "non_idempotent" in location("/webhooks/")
    assert [path for path in ("/", "/ws/") if "non_idempotent;" in location(path)] == []


def test_agents_sockets_live_longer_than_a_missed_ping():
    main = (ROOT / "app" / "main.py").read_text("utf-8")
    ping = re.search(r"ws_ping_interval=([\d.]+)", main)
    read = re.search(r"proxy_read_timeout (\d+)s", location("/ws/"))
    assert ping is not None
    assert read is not None
    assert SOCKET_PATH.startswith("/ws/")
    assert int(read[1]) >= 3 * float(ping[1])


def test_connections_kept_open_end_here_before_they_end_there():
    """A request sent into a connection that the server is just closing would be lost."""
    main = (ROOT / "app" / "main.py").read_text("utf-8")
    kept = re.search(r"timeout_keep_alive=(\d+)", main)
    default_of_nginx = 60
    assert kept is not None
    assert "keepalive_timeout" not in UPSTREAMS, "nginx's default counts"
    assert int(kept[1]) > default_of_nginx


def test_bodies_may_be_larger_than_the_program_takes_so_that_it_says_no_itself():
    size = re.search(r"client_max_body_size (\d+)m;", ROUTES)
    assert size is not None
    assert int(size[1]) * 1024 * 1024 > load_settings(environment={}, env_file=None).max_body
