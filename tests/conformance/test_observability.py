"""Traces, request ids, the access log and structured logs, of real servers and programs."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from collector import Collector, collecting
from exported_models import half_plus_two
from program import program
from stock_clients import (
    WAIT_SECONDS,
    Client,
    await_,
    classify_request,
    client_of,
    example,
    metadata_request,
    multi_inference_request,
    predict_request,
    regress_request,
    reload_request,
    spec,
    status_request,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from waiting import START_SECONDS

from serving.model_server import ModelServer
from serving.observability.log_lines import JsonLines
from serving.testing import running_server

PREDICT = "tensorflow.serving.PredictionService/Predict"
STAGES = {"decode", "queue", "run", "encode"}


def trace_parent(digit: str) -> tuple[str, str]:
    """A trace id of one digit over and over, and what a client in that trace sends."""
    return digit * 32, f"00-{digit * 32}-{'b' * 16}-01"


@pytest.fixture(scope="module")
def model(exported: Callable[..., Path]) -> str:
    return f"--model_base_path={exported(half_plus_two).parent}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def access_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs") / "access.log"


@pytest.fixture(scope="module")
def server(
    model: str, collector: Collector, access_log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelServer]:
    """Batches, traces and writes an access log."""
    parameters = tmp_path_factory.mktemp("batching") / "batching.txt"
    parameters.write_text("max_batch_size { value: 8 } batch_timeout_micros { value: 0 }")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with running_server(
            model,
            "--model_name=half",
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            f"--tracing_endpoint=http://127.0.0.1:{collector.port}",
            f"--access_log={access_log}",
            "--log_format=json",
        ) as server:
            yield server


@pytest.fixture(scope="module")
def client(server: ModelServer) -> Iterator[Client]:
    with client_of(server.grpc_port) as client:
        yield client


def half(x: float = 1.0, **fields: Any) -> PredictRequest:
    return predict_request(spec("half", **fields), x=[x, x])


def predict_over_rest(
    port: int, *, name: str = "half", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str]]:
    """The status and the headers of the response."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/{name}:predict",
        json.dumps({"instances": [1.0, 2.0, 3.0]}).encode(),
        headers or {},
    )
    try:
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
            return response.status, dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers)


def line_about(access_log: Path, request_id: str) -> str:
    """The line of the call with this id, once it is written."""

    def found() -> list[str]:
        lines = access_log.read_text().splitlines() if access_log.exists() else []
        return [line for line in lines if request_id in line]

    await_(lambda: bool(found()), lambda: f"a line about {request_id}")
    (line,) = found()
    return line


def test_a_grpc_call_is_a_span_of_its_clients_trace_with_its_stages(
    client: Client, collector: Collector
):
    trace_id, parent = trace_parent("1")
    client.predictions.Predict(half(), metadata=[("traceparent", parent)], timeout=WAIT_SECONDS)

    spans = collector.of_trace(trace_id, 5)
    call = spans.pop(PREDICT)
    assert spans.keys() == STAGES
    assert call.span.parent_span_id.hex() == "b" * 16
    assert {each.span.parent_span_id for each in spans.values()} == {call.span.span_id}
    assert call.resource["service.name"] == "model_server"
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert call.attributes["model_server.model.name"] == "half"
    assert call.attributes["model_server.model.version"] == 1
    assert call.attributes["model_server.signature.name"] == "serving_default"
    assert call.attributes["model_server.request.rows"] == 2
    assert spans["run"].attributes == {
        "model_server.batch.requests": 1,
        "model_server.batch.size": 2,
    }
    begins = [spans[name].span.start_time_unix_nano for name in ("decode", "queue", "run")]
    assert begins == sorted(begins)


def test_a_rest_call_is_a_span_of_its_clients_trace_with_its_stages(
    server: ModelServer, collector: Collector
):
    trace_id, parent = trace_parent("2")
    status, _ = predict_over_rest(server.rest_port, headers={"traceparent": parent})

    assert status == 200
    spans = collector.of_trace(trace_id, 5)
    call = spans.pop("POST /v1/models/{model}:predict")
    assert spans.keys() == STAGES
    assert call.attributes["http.response.status_code"] == 200
    assert call.attributes["model_server.model.version"] == 1
    assert call.attributes["model_server.signature.name"] == "serving_default"
    assert call.attributes["model_server.request.rows"] == 3


def test_a_call_that_fails_tells_its_code_in_its_span(client: Client, collector: Collector):
    trace_id, parent = trace_parent("3")
    with pytest.raises(grpc.RpcError):
        client.predictions.Predict(
            half(version=7), metadata=[("traceparent", parent)], timeout=WAIT_SECONDS
        )

    attributes = collector.of_trace(trace_id, 1)[PREDICT].attributes
    assert attributes["rpc.response.status_code"] == "NOT_FOUND"
    assert attributes["model_server.model.version"] == 7


CALLS = {
    "Classify": lambda: classify_request(spec("half", "classify_x_to_y"), example(x=1.0)),
    "Regress": lambda: regress_request(spec("half", "regress_x_to_y"), example(x=1.0)),
    "MultiInference": lambda: multi_inference_request(
        (spec("half", "classify_x_to_y"), "classify"),
        (spec("half", "regress_x_to_y"), "regress"),
        examples=(example(x=1.0),),
    ),
    "GetModelMetadata": lambda: metadata_request(spec("half"), "signature_def"),
    "GetModelStatus": lambda: status_request(spec("half")),
}


@pytest.mark.parametrize("method", CALLS)
def test_every_call_has_its_line_in_the_access_log(client: Client, access_log: Path, method: str):
    sent = [("x-request-id", f"of-{method}")]
    client.method(method)(CALLS[method](), metadata=sent, timeout=WAIT_SECONDS)

    line = json.loads(line_about(access_log, f"of-{method}"))
    assert line["method"].rpartition("/")[2] == method
    assert (line["model"], line["code"]) == ("half", "OK")
    assert line["bytes_in"] > 0
    assert line["bytes_out"] > 0
    assert line["duration_us"] > 0
    assert line["peer"].startswith("127.0.0.1:")
    assert len(line["trace_id"]) == 32


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("Classify", "classify_x_to_y"),
        ("Regress", "regress_x_to_y"),
        ("MultiInference", "classify_x_to_y,regress_x_to_y"),
    ],
)
def test_a_line_names_the_version_and_the_signature_that_answered(
    client: Client, access_log: Path, method: str, signature: str
):
    sent = [("x-request-id", f"for-{method}")]
    client.method(method)(CALLS[method](), metadata=sent, timeout=WAIT_SECONDS)

    line = json.loads(line_about(access_log, f"for-{method}"))
    assert (line["version"], line["signature"]) == (1, signature)


def test_the_id_goes_from_the_header_to_the_line_and_back(server: ModelServer, access_log: Path):
    status, headers = predict_over_rest(
        server.rest_port, name="none", headers={"X-Request-Id": "of-rest"}
    )

    assert (status, headers["x-request-id"]) == (404, "of-rest")
    line = json.loads(line_about(access_log, "of-rest"))
    assert (line["path"], line["model"], line["code"]) == ("/v1/models/none:predict", "none", "404")


def test_the_list_of_all_models_is_a_call_about_none(server: ModelServer, access_log: Path):
    url = f"http://127.0.0.1:{server.rest_port}/v1/models"
    request = urllib.request.Request(url, headers={"X-Request-Id": "of-list"})
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as response:
        assert response.status == 200

    line = json.loads(line_about(access_log, "of-list"))
    assert (line["method"], line["path"]) == ("GET", "/v1/models")
    assert "model" not in line


def test_an_id_is_made_and_told_where_a_client_sends_none(client: Client, access_log: Path):
    _, call = client.predictions.Predict.with_call(half(), timeout=WAIT_SECONDS)

    trailing = {entry.key: entry.value for entry in call.trailing_metadata()}
    assert re.fullmatch("[0-9a-f]{32}", trailing["x-request-id"])
    assert line_about(access_log, trailing["x-request-id"])


def test_lines_of_the_log_that_are_about_a_call_have_its_ids(client: Client):
    """Also those that another thread writes, as here one that applies configurations."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger("serving").addHandler(handler)
    trace_id, parent = trace_parent("6")
    sent = [("x-request-id", "of-reload"), ("traceparent", parent)]
    try:
        with pytest.raises(grpc.RpcError):
            client.models.HandleReloadConfigRequest(
                reload_request({"name": "other"}), metadata=sent, timeout=WAIT_SECONDS
            )
    finally:
        logging.getLogger("serving").removeHandler(handler)

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line["message"].startswith("a requested reload failed")]
    assert (line["request_id"], line["trace_id"]) == ("of-reload", trace_id)


def test_a_load_that_a_call_waits_for_is_a_stage(
    model: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    trace_id, parent = trace_parent("7")
    tracing = f"--tracing_endpoint=http://127.0.0.1:{collector.port}"
    lazy = (model, "--model_name=half", "--load_on_first_request", tracing)
    with running_server(*lazy) as server, client_of(server.grpc_port) as first:
        sent = [("traceparent", parent)]
        first.predictions.Predict(half(), metadata=sent, timeout=WAIT_SECONDS)
        spans = collector.of_trace(trace_id, 6)

    assert spans.keys() == {PREDICT, "load", *STAGES}
    load = spans["load"].span
    assert load.end_time_unix_nano <= spans["run"].span.start_time_unix_nano


def test_without_flags_nothing_observes_and_clients_notice_nothing(model: str):
    with running_server(model, "--model_name=half") as server, client_of(server.grpc_port) as other:
        sent = [("x-request-id", "mine"), ("traceparent", trace_parent("4")[1])]
        _, call = other.predictions.Predict.with_call(half(), metadata=sent, timeout=WAIT_SECONDS)
        _, headers = predict_over_rest(server.rest_port, headers=dict(sent))

        assert server._observation.observer is None
        assert tuple(call.trailing_metadata()) == ()
        assert "x-request-id" not in headers


def json_lines(log: str) -> list[dict[str, Any]]:
    """What the program has logged; libraries write lines of their own between."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_the_processes_of_a_program_write_structured_logs_and_send_their_last_spans(
    model: str, collector: Collector, tmp_path: Path
):
    access_log = tmp_path / "access.log"
    trace_id, parent = trace_parent("5")
    flags = (
        "--model_name=half",
        "--num_workers=2",
        "--log_format=json",
        f"--access_log={access_log}",
        f"--tracing_endpoint=http://127.0.0.1:{collector.port}",
        "--tracing_sample_ratio=0",
    )
    with program(model, *flags) as running:
        running.await_log('"message": "2 workers serve"', START_SECONDS)
        with client_of(running.grpc_port) as client:
            sent = [("traceparent", parent), ("x-request-id", "mine")]
            client.predictions.Predict(half(), metadata=sent, timeout=WAIT_SECONDS)
        line = json.loads(line_about(access_log, "mine"))
        running.send(signal.SIGTERM)
        status, _ = running.end()
        lines = json_lines(running.log)

    assert status == 0
    assert line["worker"] in {"worker 0", "worker 1"}
    of_workers = {each["worker"] for each in lines if "worker" in each}
    assert of_workers == {"worker 0", "worker 1"}
    for each in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", each["time"])
        assert {"level", "logger", "message", "process"} <= each.keys()
    # Spans are sent every few seconds: these came because the program ended.
    spans = collector.of_trace(trace_id, 5)
    assert spans[PREDICT].attributes["model_server.request.id"] == "mine"
