"""The program with an ONNX model, asked by stock clients, alone and in batches."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import onnx_models as models
import pytest
from program import RunningProgram, program
from stock_clients import Client, client_of, floats, metadata_request, predict_request, spec
from waiting import START_SECONDS

_CONFIG = """
model_config_list {{
  config {{ name: "half" base_path: "{folder}/half" model_platform: "onnx" }}
  config {{ name: "pairs" base_path: "{folder}/pairs" model_platform: "onnx" }}
}}
"""
_PAIRS = "max_batch_size { value: 2 } batch_timeout_micros { value: 30000000 }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProgram]:
    """Serves ``half``, unbatched, and ``pairs``, where one row alone would wait for long."""
    folder = tmp_path_factory.mktemp("onnx")
    models.half_plus_two(folder / "half" / "1")
    pairs = models.rows_of_run(folder / "pairs" / "1")
    (pairs / "batching_params.pbtxt").write_text(_PAIRS)
    config = folder / "models.config"
    config.write_text(_CONFIG.format(folder=folder))
    with program(
        f"--model_config_file={config}",
        "--enable_batching",
        "--enable_per_model_batching_parameters",
    ) as running:
        running.await_log("Running gRPC ModelServer", START_SECONDS)
        yield running


@pytest.fixture(scope="module")
def client(server: RunningProgram) -> Iterator[Client]:
    with client_of(server.grpc_port) as made:
        yield made


def rest(server: RunningProgram, path: str, body: Any = None) -> Any:
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/{path}"
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data) as answer:
        return json.load(answer)


def test_predict(server: RunningProgram, client: Client):
    assert client.predict(spec("half"), x=floats([1], [2], [5]))["y"].tolist() == [
        [2.5],
        [3],
        [4.5],
    ]
    answer = rest(server, "half:predict", {"instances": [[1.0], [2.0], [5.0]]})
    assert answer == {"predictions": [[2.5], [3.0], [4.5]]}


def test_a_wrong_input_is_refused(client: Client):
    assert client.failure("Predict", predict_request(spec("half"), x=floats(1, 2))) == (
        "INVALID_ARGUMENT",
        "input 'x' must have the shape [?,1], not [2]",
    )
    code, text = client.failure("Predict", predict_request(spec("half"), z=floats([1])))
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("Signature input alias: x(feed name: x) not found in request")


def test_metadata_has_the_models_inputs_and_outputs(server: RunningProgram, client: Client):
    response = client.call("GetModelMetadata", metadata_request(spec("half"), "signature_def"))
    value = response.metadata["signature_def"].value
    assert b"tensorflow/serving/predict" in value
    signatures = rest(server, "half/metadata")["metadata"]["signature_def"]["signature_def"]
    x = signatures["serving_default"]["inputs"]["x"]
    assert (x["name"], x["dtype"]) == ("x", "DT_FLOAT")
    assert [dim["size"] for dim in x["tensor_shape"]["dim"]] == ["-1", "1"]


def test_grpc_and_rest_requests_of_the_same_time_share_a_batch(
    server: RunningProgram, client: Client
):
    with ThreadPoolExecutor() as callers:
        by_rest = callers.submit(rest, server, "pairs:predict", {"instances": [7.0]})
        by_grpc = client.predict(spec("pairs"), x=floats(5))
    assert (by_grpc["x_again"].tolist(), by_grpc["rows"].tolist()) == ([5], [2])
    assert by_rest.result() == {"predictions": [{"x_again": 7.0, "rows": 2}]}
