"""The manifests are what Kubernetes takes, and what they say of the server is true of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.config.command_line import parse_command_line
from serving.generated.monitoring_config_pb2 import MonitoringConfig
from serving.generated.session_bundle_config_pb2 import BatchingParameters

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
ENVOY = "model-server-envoy"
QUEUE_WAIT = KUBERNETES / "components" / "queue_wait"
OVERLAYS = ["cpu", "cpu_queue_wait", "cpu_envoy", "gpu", "canary"]
VERSIONS = ["1.35", "1.36", "1.37"]
OTHERS = {"ServiceMonitor"}  # of the Prometheus operator: not among Kubernetes's own schemas

pytestmark = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="no kubectl, which renders the manifests"
)
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(text))


def of_kind(overlay: str, kind: str) -> list[dict[str, Any]]:
    found = [each for each in rendered(overlay) if each["kind"] == kind]
    assert found, kind
    return found


def of_servers(overlay: str, kind: str) -> list[dict[str, Any]]:
    """Those of the kind that are not about the pods of Envoy."""
    return [
        each for each in of_kind(overlay, kind) if ENVOY not in each["metadata"]["labels"].values()
    ]


def pod_specs(overlay: str) -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in of_servers(overlay, "Deployment")]


def metrics_of_the_server() -> str:
    return (ROOT / "docs" / "monitoring.md").read_text()


@every_overlay
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_strictly_valid(overlay: str, version: str) -> None:
    """Strictly: a misspelt field is an error, too."""
    for manifest in rendered(overlay):
        if manifest["kind"] not in OTHERS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_found() -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"por": 1},
    }
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@every_overlay
def test_the_server_knows_its_flags_and_waits_no_longer_than_it_may(overlay: str) -> None:
    for pod in pod_specs(overlay):
        (container,) = pod["containers"]
        flags = parse_command_line(container["args"])
        assert not flags.unknown
        mounted = next(each for each in container["volumeMounts"] if each["name"] == "config")
        for name in ("model_config_file", "monitoring_config_file", "batching_parameters_file"):
            assert Path(flags[name]).parent == Path(mounted["mountPath"])
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        pause += flags["shutdown_delay_seconds"] + flags["shutdown_grace_seconds"]
        assert pod["terminationGracePeriodSeconds"] > pause


@every_overlay
def test_configuration_is_read_by_the_server_and_probes_ask_for_its_models(overlay: str) -> None:
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(overlay, "ConfigMap")}
    for pod in pod_specs(overlay):
        files = maps[
            next(each for each in pod["volumes"] if each["name"] == "config")["configMap"]["name"]
        ]
        models = text_format.Parse(files["models.config"], ModelServerConfig())
        text_format.Parse(files["batching.config"], BatchingParameters())
        monitoring = text_format.Parse(files["monitoring.config"], MonitoringConfig())
        assert monitoring.prometheus_config.enable
        names = {model.name for model in models.model_config_list.config}
        (container,) = pod["containers"]
        assert container["readinessProbe"]["grpc"]["service"] in names
        assert "service" not in container["livenessProbe"]["grpc"]


@every_overlay
def test_pods_need_no_rights(overlay: str) -> None:
    for deployment in of_kind(overlay, "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}


@every_overlay
def test_models_of_object_stores_have_a_place_that_can_be_written_to(overlay: str) -> None:
    for pod in pod_specs(overlay):
        (container,) = pod["containers"]
        cache = parse_command_line(container["args"])["model_cache_dir"]
        (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == cache]
        assert not mount.get("readOnly")


def test_only_the_autoscaler_says_how_many_stable_pods_there_are() -> None:
    for deployment in of_kind("canary", "Deployment"):
        is_canary = deployment["metadata"]["name"].endswith("-canary")
        assert deployment["spec"].get("replicas") == (1 if is_canary else None)


@every_overlay
def test_what_chooses_pods_chooses_those_of_every_deployment(overlay: str) -> None:
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in of_servers(overlay, "Deployment")
    ]
    selectors = [each["spec"]["selector"] for each in of_servers(overlay, "Service")]
    selectors += [
        of_servers(overlay, "PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"],
        of_servers(overlay, "NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert all(selector.items() <= each.items() for each in labels)


def test_no_deployment_takes_the_pods_of_the_canary() -> None:
    deployments = of_kind("canary", "Deployment")
    assert {each["metadata"]["name"] for each in deployments} == {
        "model-server",
        "model-server-canary",
    }
    for one in deployments:
        for other in deployments:
            chosen = one["spec"]["selector"]["matchLabels"].items()
            matches = chosen <= other["spec"]["template"]["metadata"]["labels"].items()
            assert matches == (one is other)


def test_clients_of_grpc_get_the_addresses_of_the_pods() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind("cpu", "Service")}
    assert services["model-server"]["clusterIP"] == "None"
    assert [port["port"] for port in services["model-server"]["ports"]] == [8500]
    assert [port["port"] for port in services["model-server-rest"]["ports"]] == [8501]


def test_the_pods_scale_by_a_metric_that_the_server_has() -> None:
    (by_cpu,) = of_kind("cpu", "HorizontalPodAutoscaler")
    assert [each["type"] for each in by_cpu["spec"]["metrics"]] == ["Resource"]
    (scaler,) = of_kind("cpu_queue_wait", "HorizontalPodAutoscaler")
    by_kind = {each["type"]: each for each in scaler["spec"]["metrics"]}
    assert by_kind["Resource"]["resource"]["name"] == "cpu"
    (rule,) = yaml.safe_load((QUEUE_WAIT / "prometheus_adapter_rules.yaml").read_text())["rules"]
    assert by_kind["Pods"]["pods"]["metric"]["name"] == rule["name"]["as"]
    for series in set(re.findall(r"model_server_\w+?(?=_(?:count|sum)\{)", rule["metricsQuery"])):
        assert f"`{series}`" in metrics_of_the_server()
        assert rule["seriesQuery"].startswith(f"{series}_count")


@every_overlay
def test_prometheus_asks_at_the_path_that_the_server_has(overlay: str) -> None:
    (monitor,) = of_kind(overlay, "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/monitoring/prometheus/metrics"
    ports = {port["name"] for each in of_kind(overlay, "Service") for port in each["spec"]["ports"]}
    assert endpoint["port"] in ports


def test_gpu_pods_ask_for_one_gpu_and_run_one_process() -> None:
    (pod,) = pod_specs("gpu")
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert not any(argument.startswith("--num_workers") for argument in container["args"])
    assert container["image"].endswith("-gpu")


def envoy_of(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)["static_resources"]


def test_envoy_is_the_one_that_is_tested_but_for_where_it_finds_the_servers() -> None:
    (config,) = (
        each for each in of_kind("cpu_envoy", "ConfigMap") if ENVOY in each["metadata"]["name"]
    )
    rendered_envoy = envoy_of(config["data"]["envoy.yaml"])
    tested = envoy_of((ROOT / "deploy" / "load_balancer" / "envoy.yaml").read_text())
    assert rendered_envoy["listeners"] == tested["listeners"]
    services = {each["metadata"]["name"]: each["spec"] for each in of_kind("cpu_envoy", "Service")}
    for cluster, static in zip(rendered_envoy["clusters"], tested["clusters"], strict=True):
        assert (cluster.pop("type"), static.pop("type")) == ("STRICT_DNS", "STATIC")
        (locality,) = cluster.pop("load_assignment")["endpoints"]
        (endpoint,) = locality["lb_endpoints"]
        name = endpoint["endpoint"]["address"]["socket_address"]["address"]
        assert services[name]["clusterIP"] == "None"
        del static["load_assignment"]
        assert cluster == static


def about_envoy(kind: str) -> dict[str, Any]:
    (found,) = (
        each
        for each in of_kind("cpu_envoy", kind)
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == ENVOY
    )
    return found["spec"]


def test_an_envoy_that_ends_outlasts_the_connections_of_its_clients() -> None:
    pod = about_envoy("Deployment")["template"]["spec"]
    (container,) = pod["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause
    tested = envoy_of((ROOT / "deploy" / "load_balancer" / "envoy.yaml").read_text())
    for listener in tested["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        duration = manager["common_http_protocol_options"]["max_connection_duration"]
        assert int(duration.removesuffix("s")) < pause


def test_what_chooses_pods_of_envoy_does_and_these_may_reach_the_servers() -> None:
    deployment, policy = about_envoy("Deployment"), about_envoy("NetworkPolicy")
    labels = deployment["selector"]["matchLabels"]
    assert labels.items() <= deployment["template"]["metadata"]["labels"].items()
    assert about_envoy("Service")["selector"] == labels
    assert about_envoy("PodDisruptionBudget")["selector"]["matchLabels"] == labels
    assert policy["podSelector"]["matchLabels"] == labels
    (reached,) = (each["to"][0]["podSelector"] for each in policy["egress"] if "to" in each)
    for server in of_servers("cpu_envoy", "Deployment"):
        pod = server["spec"]["template"]["metadata"]["labels"]
        assert reached["matchLabels"].items() <= pod.items()
