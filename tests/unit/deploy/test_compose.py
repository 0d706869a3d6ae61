"""compose.yaml: two processes behind a proxy, started in order, stopped in time, with settings that there are."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.pool import QueuePool

from app.main import DRAIN_SECONDS
from app.settings import load_settings
from app.storage.engines import make_async_engine
from tests.unit.deploy.manifests import (
    DEPLOY,
    PORT,
    ROOT,
    command_problem,
    documents,
    is_pinned,
    probe_paths,
    seconds,
    settings_names,
)

(COMPOSE,) = documents(ROOT / "compose.yaml")
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, one in SERVICES.items() if one["image"].startswith("huoji:")]
EXAMPLE = (DEPLOY / "compose.env.example").read_text("utf-8")
CONNECTIONS_BESIDE_THE_POOL = 4
"""Of one process, for leases and the like, and a command run beside it."""


def filled_in(text: str) -> str:
    """What compose makes of a value, with something in the place of every secret."""
    given = {"POSTGRES_PASSWORD": "Zx-9_long-enough", "HUOJI_PUBLIC_URL": "https://huoji.example.com"}
    given |= {
        "HUOJI_SECRET_KEY": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA",
        "HUOJI_METRICS_TOKEN": "m" + EXAMPLE,
    }
    found = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda name: given[name[1]], text)
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", found)


def test_there_are_two_of_us_a_migration_a_proxy_and_both_stores():
    assert set(SERVICES) == {"huoji", "migrate", "proxy", "postgres", "redis"}
    assert SERVICES["huoji"]["deploy"]["replicas"] == 2
    assert SERVICES["migrate"]["command"] == ["db", "upgrade"]
    assert SERVICES["migrate"]["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_or_built_here(name: str):
    image = SERVICES[name]["image"]
    assert image == "huoji:${IMAGE_TAG:-local}" if name in OURS else is_pinned(image)


@pytest.mark.parametrize("name", OURS)
def test_its_environment_makes_valid_production_settings(name: str):
    environment = {key: filled_in(str(value)) for key, value in SERVICES[name]["environment"].items()}
    assert set(environment) - settings_names() == set()
    settings = load_settings(environment=environment, env_file=None)
    assert settings.is_production
    assert make_url(settings.database_url).host in SERVICES
    assert settings.redis_url == "redis://redis:6379/0"


def test_no_secret_stands_in_the_file_and_each_is_asked_for():
    environment = SERVICES["huoji"]["environment"]
    for name in ("HUOJI_SECRET_KEY", "HUOJI_METRICS_TOKEN"):
        assert environment[name].startswith(f"${{{name}:?")
    assert "${POSTGRES_PASSWORD:?" in environment["HUOJI_DATABASE_URL"]
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert COMPOSE["secrets"] == {"postgres_password": {"environment": "POSTGRES_PASSWORD"}}


def test_the_example_has_every_value_that_compose_asks_for_and_none_is_filled_in():
    texts = [(ROOT / "compose.yaml").read_text("utf-8")]
    wanted = {name for text in texts for name in re.findall(r"\$\{(\w+):\?", text)}
    offered = dict(line.split("=", 1) for line in EXAMPLE.splitlines() if line and not line.startswith("#"))
    assert set(offered) == wanted
    assert set(offered.values()) == {""}


def test_a_filled_in_env_file_may_lie_where_the_program_reads_its_own(tmp_path: Any):
    file = tmp_path / ".env"
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text("utf-8") + compose_tls()))
    values = {"HUOJI_PUBLIC_URL": "https://huoji.example.com"}
    key = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"
    file.write_text("".join(f"{name}={values.get(name, key)}\n" for name in sorted(names)), "utf-8")
    assert load_settings(environment={}, env_file=file).public_url == "https://huoji.example.com"


def compose_tls() -> str:
    return (DEPLOY / "compose.tls.yaml").read_text("utf-8")


@pytest.mark.parametrize("name", OURS)
def test_commands_are_the_programs(name: str):
    assert command_problem(SERVICES[name].get("command", ["serve"])) is None


def test_it_starts_in_order_and_the_proxy_waits_until_somebody_is_ready():
    after = {name: {key: value["condition"] for key, value in one.get("depends_on", {}).items()}
             for name, one in SERVICES.items()}  # fmt: skip
    assert after["migrate"] == {"postgres": "service_healthy"}
    assert after["huoji"]["migrate"] == "service_completed_successfully"
    assert after["huoji"]["redis"] == "service_started", "it works without Redis, so it needn't wait for it"
    assert after["proxy"] == {"huoji": "service_healthy"}
    for name, conditions in after.items():
        for other, condition in conditions.items():
            if condition == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"], f"{name} waits for {other}"


def test_health_is_asked_of_the_program_itself_on_its_port():
    check = " ".join(SERVICES["huoji"]["healthcheck"]["test"])
    (path,) = re.findall(r"'(/[a-z]+)'", check)
    assert path == "/readyz"
    assert path in probe_paths()
    assert f" {PORT}," in check


def test_everybody_gets_the_time_to_stop_that_they_need():
    assert seconds(SERVICES["huoji"]["stop_grace_period"]) >= DRAIN_SECONDS + 5
    shutdown = re.search(
        r"worker_shutdown_timeout (\w+);", (DEPLOY / "proxy" / "nginx.conf").read_text("utf-8")
    )
    assert shutdown is not None
    assert SERVICES["proxy"]["stop_signal"] == "SIGQUIT", "nginx's way to stop in order"
    assert seconds(SERVICES["proxy"]["stop_grace_period"]) > seconds(shutdown[1])
    assert SERVICES["postgres"]["stop_signal"] == "SIGINT", "PostgreSQL's fast shutdown"


@pytest.mark.parametrize("name", SERVICES)
def test_everybody_is_limited_and_confined(name: str):
    one = SERVICES[name]
    assert set(one["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    if name != "postgres":
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]


def test_only_the_proxy_is_open_to_the_outside_and_the_stores_reach_nothing():
    assert [name for name, one in SERVICES.items() if "ports" in one] == ["proxy"]
    assert COMPOSE["networks"]["back"]["internal"] is True
    assert {name for name, one in SERVICES.items() if one["networks"] == ["back"]} == {
        "migrate",
        "postgres",
        "redis",
    }
    assert SERVICES["huoji"]["networks"] == ["front", "back"], "marketplaces are reached from the front"


def test_the_proxys_addresses_are_those_that_are_trusted():
    (config,) = COMPOSE["networks"]["front"]["ipam"]["config"]
    network = ipaddress.ip_network(config["subnet"])
    assert SERVICES["huoji"]["environment"]["HUOJI_TRUSTED_PROXIES"] == str(network)


@pytest.mark.parametrize("name", SERVICES)
def test_named_volumes_and_networks_exist(name: str):
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
    assert set(SERVICES[name]["networks"]) <= set(COMPOSE["networks"])


def test_an_ack_means_what_it_promises():
    command = SERVICES["postgres"]["command"]
    assert "--synchronous_commit=on" in command
    assert not [flag for flag in command if re.match(r"--(fsync|full_page_writes)=off", flag)]


async def test_connections_suffice_for_twice_as_many_processes():
    url = make_url("postgresql+asyncpg://huoji@postgres/huoji")
    engine = make_async_engine(url)
    pool: Any = engine.sync_engine.pool
    assert isinstance(pool, QueuePool)
    each = pool.size() + pool._max_overflow + CONNECTIONS_BESIDE_THE_POOL
    await engine.dispose()
    (flag,) = [flag for flag in SERVICES["postgres"]["command"] if flag.startswith("--max_connections=")]
    reserve = 10
    assert 2 * SERVICES["huoji"]["deploy"]["replicas"] * each <= int(flag.split("=")[1]) - reserve


def test_https_is_the_same_with_another_server_block():
    (overlay,) = documents(DEPLOY / "compose.tls.yaml")
    assert set(overlay["services"]) == {"proxy"}
    mounts = dict(volume.rsplit(":", 2)[:2] for volume in overlay["services"]["proxy"]["volumes"])
    assert (ROOT / "deploy" / "proxy" / "tls" / "tls.conf").is_file()
    assert mounts["./deploy/proxy/tls"] == "/etc/huoji/servers"
    tls = (DEPLOY / "proxy" / "tls" / "tls.conf").read_text("utf-8")
    (published,) = overlay["services"]["proxy"]["ports"]
    assert f"listen {published.rpartition(':')[2]} ssl;" in tls
