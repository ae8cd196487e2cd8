"""Two replicas in a Ray cluster of this machine; they answer as one server, also when one dies.

`scripts/test --ray` makes the environment that this needs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from exported_models import half_plus_two
from ray_cluster import RayCluster
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from waiting import START_SECONDS, await_

from serving.model_server import ModelServer
from serving.testing import running_server

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]

NUM_CLIENTS = 8
NUM_CALLS = 200
MODEL = "half_plus_two"
LARGEST_CALL = "4"
"""Rows, as the metrics of batches bound them: three, at most."""


@pytest.fixture(scope="module")
def flags(
    exported: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    directory = tmp_path_factory.mktemp("flags")
    batching = directory / "batching.config"
    batching.write_text("max_batch_size { value: 64 } batch_timeout_micros { value: 100000 }")
    monitoring = directory / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    return {
        "model_name": MODEL,
        "model_base_path": str(exported(half_plus_two).parent),
        "enable_batching": True,
        "batching_parameters_file": str(batching),
        "monitoring_config_file": str(monitoring),
    }


@pytest.fixture(scope="module")
def cluster(flags: dict[str, object]) -> Iterator[RayCluster]:
    cluster = RayCluster()
    try:
        cluster.start()
        cluster.deploy(flags, num_replicas=2)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def channel(cluster: RayCluster) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{cluster.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def plain(flags: dict[str, object]) -> Iterator[ModelServer]:
    given = [f"--{name}={value}".replace("=True", "=true") for name, value in flags.items()]
    with running_server(*given) as server:
        yield server


def predict_request(model: str = MODEL, **inputs: list[float]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, value in (inputs or {"x": [1.0, 2.0, 5.0]}).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def of_examples(request_type: type, signature: str, feature: str = "x"):
    request = request_type()
    request.model_spec.name = MODEL
    request.model_spec.signature_name = signature
    example = request.input.example_list.examples.add()
    example.features.feature[feature].float_list.value.append(4.0)
    return request


def of_model(request_type: type, model: str = MODEL, **fields: object):
    request = request_type(**fields)
    request.model_spec.name = model
    return request


def answer(channel: grpc.Channel, method: str, request: object):
    """The response, or the status with which a call ended."""
    stubs = (
        prediction_service_pb2_grpc.PredictionServiceStub(channel),
        model_service_pb2_grpc.ModelServiceStub(channel),
    )
    (call,) = (getattr(stub, method) for stub in stubs if hasattr(stub, method))
    try:
        return call(request, timeout=START_SECONDS)
    except grpc.RpcError as error:
        return error.code(), error.details()


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Predict", predict_request()),
        ("Predict", predict_request("other")),
        ("Predict", predict_request(z=[1.0])),
        ("Predict", predict_pb2.PredictRequest()),
        ("Classify", of_examples(classification_pb2.ClassificationRequest, "classify_x_to_y")),
        ("Regress", of_examples(regression_pb2.RegressionRequest, "regress_x_to_y")),
        ("Regress", of_examples(regression_pb2.RegressionRequest, "regress_x_to_y", "z")),
        ("GetModelStatus", of_model(get_model_status_pb2.GetModelStatusRequest)),
        ("GetModelStatus", of_model(get_model_status_pb2.GetModelStatusRequest, "other")),
    ],
)
def test_stock_stubs_hear_what_a_plain_server_says(
    channel: grpc.Channel, plain: ModelServer, method: str, request_: object
):
    with grpc.insecure_channel(f"127.0.0.1:{plain.grpc_port}") as direct:
        expected = answer(direct, method, request_)
    assert answer(channel, method, request_) == expected


def signatures(channel: grpc.Channel) -> get_model_metadata_pb2.SignatureDefMap:
    """Unpacked, since the order of a packed map means nothing."""
    request = of_model(
        get_model_metadata_pb2.GetModelMetadataRequest, metadata_field=["signature_def"]
    )
    found = get_model_metadata_pb2.SignatureDefMap()
    assert answer(channel, "GetModelMetadata", request).metadata["signature_def"].Unpack(found)
    return found


def test_the_metadata_of_a_model_are_those_of_a_plain_server(
    channel: grpc.Channel, plain: ModelServer
):
    with grpc.insecure_channel(f"127.0.0.1:{plain.grpc_port}") as direct:
        assert signatures(channel) == signatures(direct)


def test_a_reload_is_refused(channel: grpc.Channel):
    code, _ = answer(
        channel, "HandleReloadConfigRequest", model_management_pb2.ReloadConfigRequest()
    )
    assert code is grpc.StatusCode.UNIMPLEMENTED


def http(port: int, path: str, body: bytes | None) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
    try:
        with urllib.request.urlopen(request, timeout=START_SECONDS) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"/v1/models/{MODEL}:predict", b'{"instances": [1.0, 2.0, 5.0]}'),
        (f"/v1/models/{MODEL}:predict", b'{"instances": '),
        (f"/v1/models/{MODEL}/versions/2:predict", b'{"instances": [1.0]}'),
        (f"/v1/models/{MODEL}", None),
        ("/v1/models/other", None),
        ("/v1/no%20such/route", None),
        ("/healthz/ready", None),
    ],
)
def test_rest_says_what_a_plain_server_says(
    cluster: RayCluster, plain: ModelServer, path: str, body: bytes | None
):
    assert http(cluster.http_port, path, body) == http(plain.rest_port, path, body)


def test_rest_gives_the_metadata_of_a_plain_server(cluster: RayCluster, plain: ModelServer):
    """Compared as JSON, since the order of signatures means nothing."""
    path = f"/v1/models/{MODEL}/metadata"
    pages = [http(port, path, None)[1] for port in (cluster.http_port, plain.rest_port)]
    assert json.loads(pages[0]) == json.loads(pages[1])


class Load:
    """Clients that call without a pause until they are told to stop."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.ended: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._channel = channel
        self._clients = [threading.Thread(target=self._call) for _ in range(NUM_CLIENTS)]

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        for client in self._clients:
            client.join()

    def await_answers(self, number: int) -> None:
        """Return when so many more have been answered."""
        until = self.ended["OK"] + number
        await_(lambda: self.ended["OK"] >= until, lambda: f"{until} answers, {self.ended}", 300)

    def _call(self) -> None:
        while not self._stopping.is_set():
            outcome = answer(self._channel, "Predict", predict_request())
            status = outcome[0].name if isinstance(outcome, tuple) else "OK"
            with self._lock:
                self.ended[status] += 1


def test_calls_that_come_together_meet_in_batches_of_the_replicas(
    cluster: RayCluster, channel: grpc.Channel
):
    def has_joined_calls() -> bool:
        """Whether there were batches of more rows than any call has, in the replica asked."""
        _, page = http(cluster.http_port, "/monitoring/prometheus/metrics", None)
        name = ":tensorflow:serving:batching_session:processed_batch_size"
        found = re.findall(rf'^{name}_bucket{{le="(.+)"}} (\d+)$', page.decode(), re.MULTILINE)
        batches = {up_to: int(number) for up_to, number in found}
        return bool(batches) and batches["+Inf"] > batches[LARGEST_CALL]

    with Load(channel):
        await_(has_joined_calls, lambda: "batches of more than one call", 300)


def test_when_a_replica_is_killed_calls_go_on_and_another_takes_its_place(
    cluster: RayCluster, channel: grpc.Channel, capsys: pytest.CaptureFixture[str]
):
    before = cluster.replicas()
    assert len(before) == 2
    with Load(channel) as load:
        load.await_answers(NUM_CALLS)
        assert load.ended.keys() == {"OK"}
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        load.await_answers(NUM_CALLS)
        await_(
            lambda: len(cluster.replicas() - {killed}) == 2,
            lambda: f"two replicas, not {cluster.replicas()}",
            4 * START_SECONDS,
        )
        ended_when_two = load.ended.copy()
        load.await_answers(NUM_CALLS)
    with capsys.disabled():
        print(f"\ncalls by how they ended: {dict(load.ended)}")  # noqa: T201  # to be seen
    assert before & cluster.replicas() == before - {killed}
    failed = load.ended - Counter(OK=load.ended["OK"])
    assert failed.keys() <= {"INTERNAL", "UNAVAILABLE"}
    # At most what was on its way to that replica, and what the proxy sent before it had heard.
    assert failed == ended_when_two - Counter(OK=ended_when_two["OK"])


def test_nothing_is_left_of_a_cluster_that_has_stopped(cluster: RayCluster):
    processes = cluster.processes()
    assert cluster.replicas() <= processes.keys()
    cluster.stop()
    assert not [process for process in processes if is_running(process)]


def is_running(process: int) -> bool:
    """Whether it is there, and not only to tell its parent how it ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
