"""The Kubernetes example: probes that exist, time to drain, nobody root, one disruption at a time."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest

from app.main import DRAIN_SECONDS
from app.pipeline.shared_leases import LEASE_SECONDS
from app.settings import load_settings
from tests.missing import skip_for_lack_of
from tests.unit.deploy.manifests import (
    DEPLOY,
    KUBERNETES,
    PORT,
    USER,
    command_problem,
    documents,
    image_environment,
    manifest,
    pod_specs,
    probe_paths,
    settings_names,
)

FILES = sorted(KUBERNETES.glob("*.yaml"))
PODS = dict(pod_specs())
(DEPLOYMENT,) = documents(KUBERNETES / "deployment.yaml")
(SERVER,) = PODS["Deployment"]["containers"]
CONTAINERS = [
    (f"{kind}/{one['name']}", one)
    for kind, pod in PODS.items()
    for one in [*pod.get("initContainers", []), *pod["containers"]]
]


def test_every_file_is_listed_but_the_secrets_example():
    resources = documents(KUBERNETES / "kustomization.yaml")[0]["resources"]
    names = {path.name for path in FILES} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(resources) == names


def test_kustomize_puts_it_together(tmp_path: Any):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        skip_for_lack_of("kubectl", "for `kubectl kustomize`, which asks no cluster")
    done = subprocess.run(
        [kubectl, "kustomize", KUBERNETES],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"KUBECONFIG": "/dev/null", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "image: registry.example.com/huoji:1" in done.stdout
    assert "kind: Secret" not in done.stdout


@pytest.mark.parametrize(("name", "container"), CONTAINERS, ids=[name for name, _ in CONTAINERS])
def test_every_container_runs_our_image_with_a_command_of_ours_and_is_confined(
    name: str, container: dict[str, Any]
):
    assert container["image"] == "huoji", "named once, in kustomization.yaml"
    assert command_problem(container["args"]) is None
    confined = container["securityContext"]
    assert confined["allowPrivilegeEscalation"] is False
    assert confined["readOnlyRootFilesystem"] is True
    assert confined["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


@pytest.mark.parametrize("kind", PODS)
def test_no_pod_is_root_and_its_user_is_the_images(kind: str):
    context = PODS[kind]["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["fsGroup"] == USER
    assert PODS[kind]["automountServiceAccountToken"] is False


def test_the_image_is_pinned_in_one_place():
    (image,) = documents(KUBERNETES / "kustomization.yaml")[0]["images"]
    assert image["name"] == "huoji"
    assert re.search(r"\d", image["newTag"])


def test_probes_ask_routes_that_there_are_and_only_readiness_asks_for_the_database():
    paths = {
        name: SERVER[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert set(paths.values()) <= probe_paths()
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    port = {one["name"]: one["containerPort"] for one in SERVER["ports"]}
    assert {SERVER[name]["httpGet"]["port"] for name in paths} == {"http"}
    assert port["http"] == PORT
    assert SERVER["args"][SERVER["args"].index("--port") + 1] == str(PORT)


def test_a_stalled_process_loses_its_partitions_long_before_it_is_killed():
    probe = SERVER["livenessProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] > 5 * LEASE_SECONDS


def test_there_is_time_to_drain():
    wait = int(SERVER["lifecycle"]["preStop"]["exec"]["command"][1])
    readiness = SERVER["readinessProbe"]
    assert wait >= readiness["periodSeconds"]
    assert PODS["Deployment"]["terminationGracePeriodSeconds"] >= wait + DRAIN_SECONDS + 5


def test_settings_are_known_and_valid_together():
    config = manifest("ConfigMap")["data"]
    (secret,) = documents(KUBERNETES / "secret.example.yaml")
    assert set(config) - settings_names() == set()
    assert set(secret["stringData"]) - settings_names() == set()
    assert set(secret["stringData"].values()) == {""}
    assert set(config) & set(secret["stringData"]) == set()
    own = {name: value for name, value in image_environment().items() if name.startswith("HUOJI_")}
    secrets = {
        "HUOJI_SECRET_KEY": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA",
        "HUOJI_METRICS_TOKEN": "pT3vEjRWeJCrze8SNFZ4kKvN7xI0Vni",
        "HUOJI_DATABASE_URL": "postgresql://huoji:secret@db.example.internal:5432/huoji",
    }
    assert set(secrets) == set(secret["stringData"])
    assert load_settings(environment=own | config | secrets, env_file=None).is_production


def test_configuration_and_secret_are_taken_by_their_names():
    wanted = {
        manifest("ConfigMap")["metadata"]["name"],
        documents(KUBERNETES / "secret.example.yaml")[0]["metadata"]["name"],
    }
    for name, container in CONTAINERS:
        taken = {reference["name"] for one in container["envFrom"] for reference in one.values()}
        assert taken == wanted, name


def test_an_update_never_takes_a_process_away_before_another_is_ready():
    assert DEPLOYMENT["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_selectors_find_the_pods():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    service, disruption = manifest("Service"), manifest("PodDisruptionBudget")
    spreads = PODS["Deployment"]["topologySpreadConstraints"]
    selectors = [
        service["spec"]["selector"],
        disruption["spec"]["selector"]["matchLabels"],
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        *(one["labelSelector"]["matchLabels"] for one in spreads),
    ]
    assert all(selector == labels for selector in selectors)
    assert {one["topologyKey"] for one in spreads} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    job = manifest("Job")["spec"]["template"]["metadata"]["labels"]
    assert job != labels, "the service must not send traffic to a migration"


def test_there_are_always_at_least_two_and_one_goes_at_a_time():
    autoscaler = manifest("HorizontalPodAutoscaler")
    assert autoscaler["spec"]["minReplicas"] == 2
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT["spec"], "applying it again must not undo the autoscaler"
    assert manifest("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_the_migration_comes_before_the_pods_that_need_it():
    assert manifest("Job")["spec"]["template"]["spec"]["containers"][0]["args"] == ["db", "upgrade"]
    (wait,) = PODS["Deployment"]["initContainers"]
    assert wait["args"] == ["db", "check"]


def test_the_ingress_behaves_as_the_proxy_of_compose_does():
    prefix = "nginx.ingress.kubernetes.io/proxy-"
    webhooks, rest = documents(KUBERNETES / "ingress.yaml")
    routes = (DEPLOY / "proxy" / "routes.conf").read_text("utf-8")
    (retried,) = re.findall(r"proxy_next_upstream (.*non_idempotent);", routes)
    assert webhooks["metadata"]["annotations"][prefix + "next-upstream"] == retried
    assert "non_idempotent" not in rest["metadata"]["annotations"][prefix + "next-upstream"]
    assert float(rest["metadata"]["annotations"][prefix + "read-timeout"]) >= 60
    (size,) = re.findall(r"client_max_body_size (\w+);", routes)
    for one in (webhooks, rest):
        assert one["metadata"]["annotations"][prefix + "body-size"] == size
        for rule in one["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                assert backend == {"name": manifest("Service")["metadata"]["name"], "port": {"name": "http"}}
