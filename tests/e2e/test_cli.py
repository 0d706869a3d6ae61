"""The real command line beside a real server: what it changes is in service at once, and nothing but it is needed."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from app.channels import signing
from tests.huoji_process import HuojiProcess
from tests.waiting import wait_until

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
ENTRY = "- id: hours\n  question: 几点上班\n  variants: [你们几点上班, 客服几点在]\n  answer: 您好，客服每天九点上班\n"


def run(server: HuojiProcess, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """One `huoji` command on a server's database, in its folder."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=server.folder,
        env={**server.environment, "HUOJI_LANG": "en"},
    )


def done(server: HuojiProcess, *arguments: str | Path, stdin: str = "") -> str:
    """The same for a command that has to succeed; its output."""
    result = run(server, *arguments, stdin=stdin)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


def post(server: HuojiProcess, account: str, text: str, name: str) -> int:
    """Post a buyer's message; the status it is answered with."""
    body = json.dumps({
        "type": "message.created",
        "timestamp": "2026-11-21T08:00:00Z",
        "data": {
            "message_id": name, "conversation_id": f"c-{name}", "buyer": {"id": f"b-{name}"},
            "content": {"type": "text", "text": text},
        },
    }).encode()  # fmt: skip
    seconds = int(time.time())  # noqa: TID251 - the server's own clock is the system's
    headers = {
        "content-type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(seconds),
        "webhook-signature": signing.sign([KEY], name, seconds, body),
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", f"/webhooks/generic/{account}", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def server(huoji: Callable[..., HuojiProcess]) -> HuojiProcess:
    """A server on a database that it made by itself."""
    return huoji().start()


def test_a_second_server_on_one_file_is_refused_with_pid_and_host(
    server: HuojiProcess, huoji: Callable[..., HuojiProcess]
):
    second = huoji(environment={"HUOJI_DATABASE_URL": server.environment["HUOJI_DATABASE_URL"]})
    second.start(wait=False)
    assert second.wait_exit() == 1
    # The lock is held by the process that setpriv became, so its pid is the server's.
    assert f"pid {server.pid} on {os.uname().nodename}" in second.log
    assert "Traceback" not in second.log
    assert server.get_status("/readyz") == 200


def test_a_killed_server_leaves_nothing_in_the_way(server: HuojiProcess):
    server.kill()
    server.start()
    assert server.terminate() == 0


def test_accounts_of_the_command_line_are_in_service_within_two_seconds(server: HuojiProcess):
    assert post(server, "a-1", "您好", "m-0") == 404
    done(
        server, "account", "add", "generic", "a-1", "--shop", "s-1", "--set", "secret=-", stdin=SECRET + "\n"
    )
    wait_until(lambda: post(server, "a-1", "您好", "m-1") == 200, timeout=2, what="the account")
    done(server, "account", "remove", "a-1")
    wait_until(lambda: post(server, "a-1", "您好", "m-2") == 404, timeout=2, what="the account to be gone")


def test_knowledge_published_beside_a_server_answers_the_next_message(server: HuojiProcess, tmp_path: Path):
    (tmp_path / "k.yaml").write_text(ENTRY, "utf-8")
    (tmp_path / "messages.txt").write_text("你们几点上班\n\n客服几点在\n", "utf-8")
    done(server, "account", "add", "generic", "a-1", "--shop", "s-1", "--set", f"secret={SECRET}")
    done(server, "shop", "set", "s-1", "burst_quiet=0")
    done(server, "knowledge", "import", tmp_path / "k.yaml", "--publish")
    wait_until(lambda: post(server, "a-1", "您好", "m-1") == 200, timeout=2, what="the account")
    simulate = ["simulate", "--messages", tmp_path / "messages.txt", "--url", server.url, "--json"]

    def answered() -> bool:
        document = json.loads(done(server, *simulate))
        assert document["messages"] == 2
        return document["outcomes"].get("answered", {}).get("count") == 2

    wait_until(answered, timeout=20, what="both messages to be answered")


def test_a_simulation_says_what_became_of_every_message(server: HuojiProcess, tmp_path: Path):
    (tmp_path / "k.yaml").write_text(ENTRY, "utf-8")
    lines = ["你们几点上班", "我要投诉你们,打12315", "嗯嗯嗯"] * 4
    (tmp_path / "messages.txt").write_text("\n".join(lines), "utf-8")
    done(server, "account", "add", "generic", "a-1", "--shop", "s-1", "--set", f"secret={SECRET}")
    done(server, "knowledge", "import", tmp_path / "k.yaml", "--publish")
    wait_until(lambda: post(server, "a-1", "您好", "m-1") == 200, timeout=2, what="the account")
    out = tmp_path / "decisions.jsonl"
    printed = done(
        server, "simulate", "--messages", tmp_path / "messages.txt", "--url", server.url, "--out", out
    )
    assert "12 messages in" in printed
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [row["text"] for row in rows] == lines
    assert {row["outcome"] for row in rows} <= {"answered", "asked_back", "escalated", "silent", "suggested"}
    complaints = [row for row in rows if "12315" in row["text"]]
    assert {(row["outcome"], row["rule"]) for row in complaints} == {("escalated", "E1")}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://127.0.0.1:1"], "does not answer"),
        (["--account", "nobody"], "usable here: a-1"),
    ],
)
def test_a_simulation_that_cannot_work_is_one_line(
    server: HuojiProcess, tmp_path: Path, arguments: Sequence[str], said: str
):
    (tmp_path / "messages.txt").write_text("您好\n", "utf-8")
    done(server, "account", "add", "generic", "a-1", "--shop", "s-1", "--set", f"secret={SECRET}")
    result = run(server, "simulate", "--messages", tmp_path / "messages.txt", *arguments)
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_the_doctor_reports_the_running_server(server: HuojiProcess):
    findings = json.loads(run(server, "doctor", "--json").stdout)["findings"]
    [found] = [finding for finding in findings if finding["check"] == "server"]
    assert found["level"] == "info"
    assert f"pid {server.pid}" in found["message"]["en"]


def test_output_that_nobody_reads_to_the_end_is_no_error(server: HuojiProcess):
    command = f"{sys.executable} -m app.cli channel list --json | head -c 1"
    result = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, env=server.environment, timeout=30
    )
    assert (result.stdout, result.stderr) == ("{", "")


def test_a_demo_prints_addresses_and_logins_and_can_be_simulated(demo: HuojiProcess, tmp_path: Path):
    wait_until(lambda: "Ctrl+C" in demo.log, what="the addresses")
    assert f"{demo.url}/sandbox/" in demo.log
    for name in ("店长", "主管", "小美", "阿强"):
        assert name in demo.log
    (tmp_path / "messages.txt").write_text("什么时候发货\n我要投诉你们,打12315\n", "utf-8")
    document = json.loads(
        done(demo, "simulate", "--messages", tmp_path / "messages.txt", "--url", demo.url, "--json")
    )
    assert document["messages"] == 2
    assert document["outcomes"]["escalated"]["count"] >= 1


def test_a_second_demo_on_one_port_is_refused(demo: HuojiProcess, huoji: Callable[..., HuojiProcess]):
    second = huoji(command="demo", port=demo.port)
    second.start(wait=False)
    assert second.wait_exit() == 1
    assert "choose another with --port" in second.log
