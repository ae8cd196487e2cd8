"""TensorFlow Lite models in a server, asked by stock clients: verbs, protocols, batches."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import exported_models
import numpy as np
import pytest
import tflite_models as models
from exported_models import Exported
from stock_clients import (
    Client,
    classify_request,
    client_of,
    example,
    floats,
    metadata_request,
    multi_inference_request,
    predict_request,
    regress_request,
    spec,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from serving.core.models import ModelSpec
from serving.model_server import ModelServer
from serving.testing import running_server

PLATFORMS = {
    "half": "tensorflow",
    "saved": "tensorflow",
    "verbs": "tflite",
    "strings": "tflite",
    "graphs": "tflite",
    "turns": "tflite",
    "dense": "tflite",
}


@pytest.fixture(scope="module")
def folder(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of PLATFORMS; ``half`` has a SavedModel too, y = x / 2 + 2 in signatures of its
    own, ``saved`` has nothing else.
    """
    folder = tmp_path_factory.mktemp("tflite")
    for name, made in (
        ("saved", exported_models.half_plus_two),
        ("verbs", models.verbs),
        ("strings", models.strings),
        ("graphs", models.two_graphs),
        ("turns", models.turns),
        ("dense", models.dense),
    ):
        shutil.copytree(exported(made), folder / name / "1")
    shutil.copytree(folder / "saved", folder / "half")
    models.half_plus_two_with_metadata(folder / "half" / "1")
    configs = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "{platform}" }}\n'
        for name, platform in PLATFORMS.items()
    )
    (folder / "models.config").write_text(f"model_config_list {{\n{configs}}}\n")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ModelServer]:
    flags = (f"--model_config_file={folder}/models.config", "--prefer_tflite_model")
    with running_server(*flags, "--num_tflite_pools=2", "--version_settle_seconds=0") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ModelServer) -> Iterator[Client]:
    with client_of(server.grpc_port) as made:
        yield made


def rest(server: ModelServer, path: str, body: Any = None) -> Any:
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/{path}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data) as answer:
        return json.load(answer)


def signatures_of(client: Client, name: str) -> Any:
    response = client.call("GetModelMetadata", metadata_request(spec(name), "signature_def"))
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    return signatures.signature_def


def test_the_tflite_model_of_a_version_is_preferred_to_its_saved_model(client: Client):
    """The SavedModel has five signatures, and stays in use where there is nothing else."""
    assert signatures_of(client, "half").keys() == {"serving_default"}
    assert len(signatures_of(client, "saved")) == 5
    for name in ("half", "saved"):
        assert client.predict(spec(name), x=floats([1], [2]))["y"].tolist() == [[2.5], [3]]


def test_without_the_flag_the_saved_model_is_served(folder: Path):
    with (
        running_server(f"--model_base_path={folder}/half", "--version_settle_seconds=0") as server,
        client_of(server.grpc_port) as client,
    ):
        assert len(signatures_of(client, "default")) == 5


def test_metadata_has_the_tensors_of_the_file(client: Client):
    signature = signatures_of(client, "half")["serving_default"]
    assert signature.inputs["x"].name == "x"
    assert signature.method_name == "tensorflow/serving/predict"
    assert signatures_of(client, "graphs")["sum"].inputs.keys() == {"x", "z"}


def test_predict_over_rest(server: ModelServer):
    assert rest(server, "half:predict", {"instances": [[1.0], [2.0]]}) == {
        "predictions": [[2.5], [3.0]]
    }
    body = {"signature_name": "sum", "inputs": {"x": [1.0], "z": [2.0]}}
    assert rest(server, "graphs:predict", body) == {"outputs": [3.0]}
    body = {"inputs": {"text": ["é"], "number": 7}}
    assert rest(server, "strings:predict", body) == {"outputs": {"column": [["é"]], "same": 7}}


def test_strings_over_grpc(client: Client):
    text = np.array([b"\x00\xff", b""], np.object_)
    outputs = client.predict(spec("strings"), text=text, number=np.int64(1))
    assert outputs["column"].tolist() == [[b"\x00\xff"], [b""]]


def test_classify_and_regress_and_both_at_once(server: ModelServer, client: Client):
    examples = (example(x=1.0), example(x=2.0))
    by_class = spec("verbs", signature="classify")
    by_value = spec("verbs", signature="regress")
    response = client.call("Classify", classify_request(by_class, *examples))
    scores = [row.classes[0].score for row in response.result.classifications]
    assert scores == [1, 0]
    response = client.call("Regress", regress_request(by_value, *examples))
    assert [row.value for row in response.result.regressions] == [1, 0]
    request = multi_inference_request(
        (by_class, "classify"), (by_value, "regress"), examples=examples
    )
    assert len(client.call("MultiInference", request).results) == 2
    body = {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": 3.0}]}
    assert rest(server, "verbs:regress", body) == {"results": [1.0, 0.0]}


def test_a_run_that_fails_is_internal_and_the_next_is_not_affected(client: Client):
    for _ in range(2):
        code, text = client.failure("Predict", predict_request(spec("dense"), x=floats([1, 2])))
        assert code == "INTERNAL"
        assert text.startswith("Failed to invoke TfLite interpreter: ")
    assert client.predict(spec("dense"), x=floats([1, 2, 3, 4]))["y"].tolist() == [[10, 0]]


def test_runs_wait_for_interpreters_on_no_thread(server: ModelServer):
    """In the queue, that is, which only models have that can do so many runs at once."""
    shown = {}
    for name in ("turns", "saved"):
        leased: list = []
        server.core.lease(ModelSpec(name), None, leased.append)
        shown[name] = repr(leased[0].servable)
        leased[0].release()
    assert "<QueuedRuns of <DirectServable of <TfLiteServable" in shown["turns"]
    assert "QueuedRuns" not in shown["saved"]


def test_many_calls_at_once_get_their_own_answers(client: Client):
    """Sixteen callers, two interpreters, runs of different lengths and shapes."""

    def one(number: int) -> bool:
        wanted = np.full(1 + number % 3, 1 + number * 20, np.int32)
        return np.array_equal(client.predict(spec("turns"), turns=wanted)["y"], wanted)

    with ThreadPoolExecutor(16) as callers:
        assert all(callers.map(one, range(200)))


def test_with_several_interpreters_a_pool_requests_are_joined_and_split(
    exported: Exported, tmp_path: Path
):
    """Of 500 rows, the most a request may have, no run has more than an interpreter's half."""
    shutil.copytree(exported(models.rows_of_run), tmp_path / "rows" / "1")
    flags = (
        f"--model_base_path={tmp_path}/rows",
        "--prefer_tflite_model",
        "--num_tflite_pools=2",
        "--num_tflite_interpreters_per_pool=2",
        "--version_settle_seconds=0",
    )
    with running_server(*flags) as server, client_of(server.grpc_port) as client:
        request = predict_request(spec("default"), x=np.zeros(501, np.float32))
        code, _ = client.failure("Predict", request)
        assert code == "INVALID_ARGUMENT"
        rows = client.predict(spec("default"), x=np.zeros(400, np.float32))["rows"]
        assert rows.shape == (400,)
        assert rows.max() <= 250
