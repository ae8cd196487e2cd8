"""The page of metrics of a whole server, after real calls, as Prometheus' own parser reads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from exported_models import Exported, half_plus_two
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from stock_clients import (
    WAIT_SECONDS,
    Client,
    client_of,
    metadata_request,
    predict_request,
    spec,
    status_request,
)
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest

from serving.apis.monitoring.prometheus_text import metric_name
from serving.model_server import ModelServer
from serving.monitoring import gpu_metrics
from serving.testing import running_server
from serving.workers import replacements

PATH = "/monitoring/prometheus/metrics"
PREFIX = ":tensorflow:serving:"
METADATA_OF_NONE = metadata_request(spec("none"), "signature_def")


def fetch(server: ModelServer, target: str, method: str = "GET", body: str = "") -> tuple:
    """Status, type and text."""
    with closing(HTTPConnection("127.0.0.1", server.rest_port, timeout=WAIT_SECONDS)) as connection:
        connection.request(method, target, body)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        return response.status, response.headers["content-type"], text


class Page:
    """What the page of a server says at one moment."""

    def __init__(self, server: ModelServer) -> None:
        status, content_type, self.text = fetch(server, PATH)
        assert (status, content_type) == (200, "text/plain")
        self.families = {each.name: each for each in text_string_to_metric_families(self.text)}

    def samples(self, name: str, **labels: str) -> list[Sample]:
        """Those of a metric; the parser calls any counter ``…_total``."""
        return [
            sample
            for family in self.families.values()
            for sample in family.samples
            if sample.name in (name, f"{name}_total") and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float:
        return sum(sample.value for sample in self.samples(name, **labels))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monitoring")


@pytest.fixture(scope="module")
def monitoring(place: Path) -> str:
    """The flag that has the page published."""
    (place / "monitoring.config").write_text("prometheus_config { enable: true }")
    return f"--monitoring_config_file={place / 'monitoring.config'}"


@pytest.fixture(scope="module")
def server(exported: Exported, monitoring: str) -> Iterator[ModelServer]:
    base = exported(half_plus_two).parent
    with running_server("--model_name=m", f"--model_base_path={base}", monitoring) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ModelServer) -> Iterator[Client]:
    with client_of(server.grpc_port) as client:
        yield client


def test_a_query_is_refused_with_both_paths(server: ModelServer) -> None:
    text = f"Unexpected path: {PATH}?x=1. Should be {PATH}"
    assert fetch(server, f"{PATH}?x=1") == (400, "text/plain", text)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_any_method_will_do(server: ModelServer, method: str) -> None:
    status, _, text = fetch(server, PATH, method, "x")
    assert status == 200
    assert text.startswith("# TYPE ")


def test_the_rest_of_the_port_is_as_it_was(server: ModelServer) -> None:
    assert fetch(server, f"{PATH}/x")[0] == 404
    assert fetch(server, "/v1/models/m")[0] == 200


def test_there_is_no_page_unless_it_is_configured(exported: Exported) -> None:
    base = exported(half_plus_two).parent
    with running_server("--model_name=m", f"--model_base_path={base}") as server:
        assert fetch(server, PATH)[0] == 404


def test_the_page_is_where_the_file_says(exported: Exported, tmp_path: Path) -> None:
    base = exported(half_plus_two).parent
    file = tmp_path / "monitoring.config"
    file.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = ("--model_name=m", f"--model_base_path={base}", f"--monitoring_config_file={file}")
    with running_server(*flags) as server:
        assert fetch(server, "/metrics")[0] == 200
        assert fetch(server, PATH)[0] == 404


def test_grpc_calls_are_counted_and_timed(server: ModelServer, client: Client) -> None:
    before = Page(server)
    client.call("Predict", predict_request(spec("m"), x=[1.0]))
    client.failure("Predict", predict_request(spec("none"), x=[1.0]))
    after = Page(server)

    def increase(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert increase(f"{PREFIX}request_count", model_name="m", status="OK") == 1
    assert increase(f"{PREFIX}request_count", model_name="none", status="NOT_FOUND") == 1
    labels = {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"}
    assert increase(f"{PREFIX}request_latency_count", **labels) == 1
    assert increase(f"{PREFIX}request_latency_sum", **labels) > 0
    assert increase(f"{PREFIX}request_latency_count", model_name="none") == 0
    labels = {"model_name": "m", "API": "Predict", "runtime": "TF1"}
    assert increase(f"{PREFIX}runtime_latency_count", **labels) == 1
    labels = {"model_name": "m", "version": "1", "api": "Predict", "code": "OK"}
    assert increase("model_server_run_duration_seconds_count", **labels) == 1
    method = "tensorflow.serving.PredictionService/Predict"
    for code in ("OK", "NOT_FOUND"):
        labels = {"method": method, "code": code}
        assert increase("model_server_rpc_duration_seconds_count", **labels) == 1
    assert after.value("model_server_rpcs_in_progress") == 0
    assert after.value("model_server_runs_in_progress", model_name="m") == 0


@pytest.mark.parametrize(
    ("path", "message", "code"),
    [
        ("PredictionService/MultiInference", MultiInferenceRequest(), "INVALID_ARGUMENT"),
        ("PredictionService/GetModelMetadata", METADATA_OF_NONE, "NOT_FOUND"),
        ("ModelService/GetModelStatus", status_request(spec("none")), "NOT_FOUND"),
        ("ModelService/HandleReloadConfigRequest", ReloadConfigRequest(), "INVALID_ARGUMENT"),
    ],
)
def test_methods_that_tensorflow_serving_does_not_count_are_counted(
    server: ModelServer, client: Client, path: str, message: Message, code: str
) -> None:
    def count() -> float:
        name, method = "model_server_rpc_duration_seconds_count", f"tensorflow.serving.{path}"
        return Page(server).value(name, method=method, code=code)

    before = count()
    assert client.failure(path.partition("/")[2], message)[0] == code
    assert count() - before == 1


def test_rest_calls_are_counted_and_timed(server: ModelServer) -> None:
    before = Page(server)
    assert fetch(server, "/v1/models/m:predict", "POST", '{"instances": [1.0]}')[0] == 200
    assert fetch(server, "/v1/models/m")[0] == 200
    assert fetch(server, "/v1/models/m:nonsense", "POST")[0] == 400
    after = Page(server)

    def increase(name: str, **labels: str) -> float:
        return after.value(name, **labels) - before.value(name, **labels)

    assert increase(f"{PREFIX}request_count", model_name="m", status="OK") == 2
    assert increase(f"{PREFIX}request_count", model_name="", status="INVALID_ARGUMENT") == 1
    for api in ("predict", ""):
        labels = {"model_name": "m", "API": api, "entrypoint": "REST"}
        assert increase(f"{PREFIX}request_latency_count", **labels) == 1


def test_names_that_are_no_text_do_not_spoil_the_page(server: ModelServer) -> None:
    fetch(server, "/v1/models/%ff%22%0a")
    page = Page(server)
    assert page.value(f"{PREFIX}request_count", model_name='?"\n', status="NOT_FOUND") >= 1


def test_batches_and_health_are_counted(exported: Exported, monitoring: str) -> None:
    base = exported(half_plus_two).parent
    flags = ("--model_name=m", f"--model_base_path={base}", monitoring, "--enable_batching")
    with (
        running_server(*flags, "--enable_grpc_healthcheck_service") as server,
        client_of(server.grpc_port) as client,
    ):
        client.call("Predict", predict_request(spec("m"), x=[1.0, 2.0]))
        HealthStub(client.channel).Check(HealthCheckRequest(), timeout=WAIT_SECONDS)
        page = Page(server)
    prefix, version = f"{PREFIX}batching_session:", {"model_name": "m", "version": "1"}
    assert page.value(f"{prefix}wrapped_run_count") == 1
    assert page.value(f"{prefix}queuing_latency_count", thread_pool_name="") == 1
    assert page.value(f"{prefix}padding_size_count", execution_batch_size="2") == 1
    assert page.value(f"{prefix}input_batch_size_sum") == 2
    assert page.value(f"{prefix}processed_batch_size_sum") == 2
    assert page.value("model_server_batch_fill_ratio_sum", **version) == pytest.approx(2 / 1000)
    assert page.value("model_server_batch_queue_duration_seconds_count", **version) == 1
    assert page.samples("model_server_batch_queue_rows", **version)[0].value == 0
    check = {"method": "grpc.health.v1.Health/Check", "code": "OK"}
    assert page.value("model_server_rpc_duration_seconds_count", **check) == 1


def test_versions_are_told_with_their_states_and_loads(server: ModelServer) -> None:
    page = Page(server)
    version = {"model_name": "m", "version": "1"}
    assert page.value("model_server_version_state", **version, state="AVAILABLE") == 1
    assert page.value("model_server_version_info", **version, platform="tensorflow") == 1
    assert page.value("model_server_load_duration_seconds_count", model_name="m", code="OK") == 1
    assert page.value("model_server_processes") == 1


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kind and labels of the metrics that the documentation lists."""
    text = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {
        name.strip("| `"): (kind, tuple(filter(None, labels.strip().split(", "))))
        for name, kind, labels, *_ in rows
    }


def test_the_documentation_lists_every_metric_and_no_other(server: ModelServer) -> None:
    described = [family.description for family in server._metrics.snapshot().values()]
    there = {
        metric_name(each.name): (each.kind.value, each.labels)
        for each in (*described, *gpu_metrics.DESCRIPTIONS, replacements.DESCRIPTION)
    }
    assert documented() == there


def test_what_is_on_the_page_is_what_prometheus_understands(server: ModelServer) -> None:
    """Its parser finds each metric that is documented, with its kind, where there is no GPU and no
    worker.
    """
    found = {name: family.type for name, family in Page(server).families.items()}
    expected = {
        name.removesuffix("_total") if kind == "counter" else name: kind
        for name, (kind, _) in documented().items()
        if not name.startswith(("model_server_gpu", "model_server_worker"))
    }
    assert {name: found.get(name) for name in expected} == expected


UPSTREAMS_NAMES = {
    "metric names should not contain ':'",
    "no help text",
    'counter metrics should have "_total" suffix',
    'non-histogram and non-summary metrics should not have "_count" suffix',
}
"""What promtool says of TensorFlow Serving's metrics, whose names and lines are a contract."""


@pytest.mark.skipif(not shutil.which("promtool"), reason="Prometheus' promtool is not installed")
def test_promtool_complains_of_upstreams_names_only(exported: Exported, monitoring: str) -> None:
    base = exported(half_plus_two).parent
    flags = ("--model_name=m", f"--model_base_path={base}", monitoring, "--enable_batching")
    with running_server(*flags) as server, client_of(server.grpc_port) as client:
        client.call("Predict", predict_request(spec("m"), x=[1.0, 2.0]))
        client.failure("Predict", predict_request(spec('no "such"'), x=[1.0]))
        fetch(server, "/v1/models/m:predict", "POST", '{"instances": [1.0]}')
        fetch(server, "/v1/models/m:predict", "POST", '{"instances":')
        page = Page(server)
    ended = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page.text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 3, ended.stderr  # 1 where it cannot read the page
    complaints = [line.partition(" ") for line in f"{ended.stdout}{ended.stderr}".splitlines()]
    named = {(name, text) for name, _, text in complaints if name}
    assert {text for name, text in named if name.startswith(PREFIX)} <= UPSTREAMS_NAMES
    assert not [name for name, _ in named if not name.startswith(PREFIX)]
