"""Batching, over the wire: everybody gets their own answer, and the models run less often."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import exported_models as models
import grpc
import numpy as np
import pytest
from exported_models import Exported
from stock_clients import (
    Client,
    await_,
    classify_request,
    client_of,
    example,
    floats,
    multi_inference_request,
    predict_request,
    regress_request,
    reload_request,
    spec,
    status_request,
    write_config,
)

from batching_models import gated_rows, rows_of_run, total
from serving.core.errors import ServingError
from serving.core.models import ModelSpec, lease_and_wait
from serving.core.servable import Outputs, RunOptions
from serving.testing import running_server

PAIRS = "max_batch_size { value: 2 } batch_timeout_micros { value: 30000000 }"
"""Two rows are a batch; one alone would wait for half a minute."""

PARAMETERS = {
    "pairs": (models.identities, PAIRS),
    "padded": (models.identities, f"{PAIRS} pad_variable_length_inputs: true"),
    "rounded": (
        rows_of_run,
        "max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8",
    ),
    "split": (
        rows_of_run,
        "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 2 }",
    ),
    "crowd": (
        rows_of_run,
        "max_batch_size { value: 32 } batch_timeout_micros { value: 100000 }",
    ),
    "halves": (models.half_plus_two, PAIRS),
    "sevens": (models.main_op, PAIRS),
    "half": (models.half_plus_two, "max_batch_size { value: 8 }"),
    "matmul": (models.matmul, "max_batch_size { value: 8 }"),
    "numbers": (models.numbers, f"{PAIRS} retry_failed_batch_in_halves: true"),
    "all_or_none": (models.numbers, PAIRS),
    "apart": (models.identities, f"{PAIRS} retry_failed_batch_in_halves: true"),
    "total": (total, f"{PAIRS} retry_failed_batch_in_halves: true"),
    "unbatched": (rows_of_run, None),
}
"""Models by name: what they compute, and their own parameters; None: they have none."""


def publish_copy(exported: Path, base: Path, parameters: str | None, version: int = 1) -> None:
    """A copy of an exported version with parameters of its own; its number comes last."""
    unfinished = shutil.copytree(exported, base.with_name(f"{base.name}-unfinished"))
    if parameters is not None:
        (unfinished / "batching_params.pbtxt").write_text(parameters)
    base.mkdir(exist_ok=True)
    unfinished.rename(base / str(version))


@pytest.fixture(scope="module")
def ports(
    exported: Exported, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, int]]:
    """Of gRPC and of REST: a server whose models have batching parameters of their own."""
    folder = tmp_path_factory.mktemp("batched")
    for name, (exporter, parameters) in PARAMETERS.items():
        publish_copy(exported(exporter), folder / name, parameters)
    config = write_config(folder / "models.config", {name: folder / name for name in PARAMETERS})
    with running_server(
        "--enable_batching",
        "--enable_per_model_batching_parameters",
        "--grpc_max_threads=64",
        f"--model_config_file={config}",
    ) as server:
        yield server.grpc_port, server.rest_port


@pytest.fixture(scope="module")
def client(ports: tuple[int, int]) -> Iterator[Client]:
    with client_of(ports[0]) as made:
        yield made


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return, all of them made at the same time."""
    with ThreadPoolExecutor(len(calls)) as callers:
        return [future.result() for future in [callers.submit(call) for call in calls]]


def identity(client: Client, model: str, **inputs: Any) -> Any:
    """The code and text of a refused call of an ``identities`` model, else its one output."""
    (alias,) = inputs
    try:
        return client.predict(spec(model, alias), **inputs)[alias].tolist()
    except grpc.RpcError as error:
        return error.code().name, error.details()


def test_concurrent_clients_get_their_own_rows(ports: tuple[int, int]):
    def predict(number: int) -> None:
        with client_of(ports[0]) as own:
            for turn in range(10):
                x = floats(*range(number % 3 + 1)) + 100 * number + turn
                outputs = own.predict(spec("crowd"), x=x)
                assert outputs["x"].tolist() == x.tolist()

    together(*(lambda n=n: predict(n) for n in range(8)))


def test_two_hundred_calls_at_once_need_far_fewer_runs(client: Client):
    request = predict_request(spec("crowd"), x=floats(1))
    calls = [client.future("Predict", request) for _ in range(200)]
    rows = [call.result().outputs["rows"].int64_val[0] for call in calls]
    runs = round(sum(1 / count for count in rows))
    assert 200 / 32 <= runs <= 40


def test_models_do_not_share_batches(client: Client):
    """Their tensors have the same names, and two rows would be a batch of either."""

    def y(model: str) -> float:
        return client.predict(spec(model), x=np.full((1, 1), 4, np.float32))["y"].item()

    calls = [lambda: y("halves"), lambda: y("sevens")]
    assert together(*calls * 2) == [4.0, 11.0] * 2


def test_every_verb_goes_through_the_batches(client: Client):
    rows = (example(x=0.0), example(x=2.0))

    def classify() -> list[float]:
        request = classify_request(spec("half", "classify_x_to_y"), *rows)
        answer = client.call("Classify", request).result
        return [one.classes[0].score for one in answer.classifications]

    def regress() -> list[float]:
        request = regress_request(spec("half", "regress_x_to_y2"), *rows)
        return [one.value for one in client.call("Regress", request).result.regressions]

    def both() -> list[float]:
        tasks = [(spec("half", "regress_x_to_y"), "regress")]
        tasks += [(spec("half", "classify_x_to_y"), "classify")]
        request = multi_inference_request(*tasks, examples=rows)
        first = client.call("MultiInference", request).results[0]
        return [one.value for one in first.regression_result.regressions]

    answers = together(classify, regress, both, classify, regress, both)
    assert answers == [[2.0, 3.0], [3.0, 4.0], [2.0, 3.0]] * 2


def post(port: int, path: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_rest_and_grpc_calls_meet_in_one_batch(ports: tuple[int, int], client: Client):
    body = {"signature_name": "float32", "instances": [[1.0, 1.0]]}
    answers = together(
        lambda: post(ports[1], "/v1/models/pairs:predict", body),
        lambda: identity(client, "pairs", float32=np.full((1, 2), 2, np.float32)),
    )
    assert answers == [(200, {"predictions": [[1.0, 1.0]]}), [[2.0, 2.0]]]


def test_a_request_larger_than_a_batch_is_refused(ports: tuple[int, int], client: Client):
    text = "Task size 3 is larger than maximum input batch size 2"
    refused = identity(client, "pairs", float32=np.zeros(3, np.float32))
    assert refused == ("INVALID_ARGUMENT", text)
    body = {"signature_name": "float32", "instances": [1.0, 2.0, 3.0]}
    assert post(ports[1], "/v1/models/pairs:predict", body) == (400, {"error": text})


def test_inputs_need_a_common_number_of_rows(client: Client):
    scalar = identity(client, "pairs", float32=np.float32(1))
    assert scalar == (
        "INVALID_ARGUMENT",
        "Batching Run() input tensors must have at least one dimension",
    )
    request = predict_request(spec("matmul"), a=np.ones((1, 2), "f"), b=np.ones((2, 1), "f"))
    assert client.failure("Predict", request) == (
        "INVALID_ARGUMENT",
        "Batching Run() input tensors must have equal 0th-dimension size",
    )


def test_shapes_that_differ_fail_all_requests_of_the_batch(client: Client):
    calls = [
        lambda width=width: identity(client, "pairs", float32=np.ones((1, width), np.float32))
        for width in (2, 3)
    ]
    text = (
        "Tensors with name 'in_float32:0' from different tasks have different shapes and padding "
        "is turned off. Set pad_variable_length_inputs to true, or ensure that all tensors with "
        "the same name have equal dimensions starting with the first dim."
    )
    assert together(*calls) == [("FAILED_PRECONDITION", text)] * 2


def test_shapes_that_differ_are_padded_where_the_model_asks_for_it(client: Client):
    answers = together(
        lambda: identity(client, "padded", int32=np.array([[1, 2, 3]], np.int32)),
        lambda: identity(client, "padded", int32=np.array([[4]], np.int32)),
    )
    assert answers == [[[1, 2, 3]], [[4, 4, 4]]]


def test_one_request_at_fault_fails_alone_where_the_model_asks_for_retries(client: Client):
    def y(model: str, text: str) -> float | str:
        try:
            return client.predict(spec(model), text=np.array([text], np.object_))["y"].item()
        except grpc.RpcError as error:
            return error.code().name

    calls = [
        lambda model=model, text=text: y(model, text)
        for model in ("numbers", "all_or_none")
        for text in ("1.5", "none")
    ]
    assert together(*calls) == [1.5, "INVALID_ARGUMENT"] + ["INVALID_ARGUMENT"] * 2


def test_strings_are_batched_and_padded(client: Client):
    answers = together(
        lambda: identity(client, "padded", string=np.array([[b"a", b"b"]], np.object_)),
        lambda: identity(client, "padded", string=np.array([["ü\0"]], np.object_)),
    )
    assert answers == [[[b"a", b"b"]], [["ü\0".encode()] * 2]]


def test_element_types_that_differ_fail_all_requests_of_the_batch_or_the_wrong_one(client: Client):
    calls = [
        lambda model=model, dtype=dtype: identity(client, model, float32=np.ones(1, dtype))
        for model in ("pairs", "apart")
        for dtype in ("f4", "f8")
    ]
    right, wrong, right_apart, wrong_apart = together(*calls)
    assert right == wrong
    assert right[0] == "INTERNAL"
    assert right[1].startswith("Tensor concat operation failed: INVALID_ARGUMENT: ")
    assert right_apart == [1.0]
    assert wrong_apart[0] == "INVALID_ARGUMENT"


def test_an_output_without_rows_fails_all_requests_of_the_batch(client: Client):
    request = predict_request(spec("total"), x=floats(1))
    answers = together(*[lambda: client.failure("Predict", request)] * 2)
    assert answers == [("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions")] * 2


def test_rows_without_elements_are_answered_so(client: Client):
    calls = [lambda: identity(client, "pairs", float32=np.ones((1, 0), np.float32))] * 2
    assert together(*calls) == [[[]]] * 2


def test_a_request_without_rows_is_answered_so_in_a_batch_with_another(client: Client):
    """As many requests as a batch may have rows are a whole one."""
    answers = together(
        lambda: identity(client, "pairs", float32=np.ones((0, 2), np.float32)),
        lambda: identity(client, "pairs", float32=np.ones((1, 2), np.float32)),
    )
    assert answers == [[], [[1.0, 1.0]]]


@pytest.mark.parametrize(
    ("shapes", "failure"),
    [
        (
            [(1, 0), (1, 2)],
            ("INVALID_ARGUMENT", "Got empty tensor in batch of non-empty tensors."),
        ),
        (
            [(1, 1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1, 2)],
            ("INVALID_ARGUMENT", "Only tensors with rank from 1 to 6 can be padded."),
        ),
        (
            [(1,), (1, 2)],
            (
                "FAILED_PRECONDITION",
                "Tensors with name 'in_float32:0' from different tasks have different ranks, which "
                "padding does not make equal.",
            ),
        ),
    ],
)
def test_what_can_not_be_padded_fails_all_requests_of_the_batch(
    client: Client, shapes: list[tuple[int, ...]], failure: tuple[str, str]
):
    calls = [
        lambda shape=shape: identity(client, "padded", float32=np.ones(shape, np.float32))
        for shape in shapes
    ]
    assert together(*calls) == [failure] * 2


def test_outputs_that_a_request_leaves_out_are_batches_of_their_own(client: Client):
    request = predict_request(spec("split"), ("rows",), x=floats(1, 2, 3))
    answer = client.call("Predict", request)
    assert list(answer.outputs) == ["rows"]
    assert list(answer.outputs["rows"].int64_val) == [2, 2, 1]


def test_a_batch_is_filled_up_to_an_allowed_size(client: Client):
    outputs = client.predict(spec("rounded"), x=floats(1, 2, 3))
    assert outputs["x"].tolist() == [1, 2, 3]
    assert outputs["rows"].tolist() == [4, 4, 4]


def test_a_large_request_is_spread_over_batches(client: Client):
    outputs = client.predict(spec("split"), x=floats(1, 2, 3, 4, 5))
    assert outputs["x"].tolist() == [1, 2, 3, 4, 5]
    assert outputs["rows"].tolist() == [2, 2, 2, 2, 1]


def test_a_version_without_parameters_is_not_batched(client: Client):
    outputs = client.predict(spec("unbatched"), x=np.zeros(2000, np.float32))
    assert outputs["rows"].tolist() == [2000] * 2000


def test_a_request_without_rows_is_answered_without_rows(client: Client):
    assert client.predict(spec("rounded"), x=floats())["x"].tolist() == []


def test_wrong_parameters_fail_the_load_and_the_old_version_serves_on(
    exported: Exported, tmp_path: Path
):
    base, good = tmp_path / "m", exported(rows_of_run)
    publish_copy(good, base, "")
    with (
        running_server(
            "--enable_batching",
            "--enable_per_model_batching_parameters",
            "--max_num_load_retries=0",
            "--file_system_poll_wait_seconds=0",
            f"--model_base_path={base}",
            "--model_name=m",
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        wrong = "max_batch_size { value: 8 } allowed_batch_sizes: 4"
        publish_copy(good, base, wrong, version=2)
        again = reload_request({"name": "m", "base_path": str(base)})
        client.call("HandleReloadConfigRequest", again)  # looks for versions
        client.await_states({2: ("END", "INVALID_ARGUMENT"), 1: ("AVAILABLE", "OK")})
        status = client.call("GetModelStatus", status_request(spec(version=2)))
        assert status.model_version_status[0].status.error_message == (
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; "
            "expected 8"
        )
        assert client.predict(spec(), x=floats(1))["x"].tolist() == [1]


def test_a_full_queue_refuses_and_an_unload_answers_what_it_holds(
    exported: Exported, tmp_path: Path
):
    parameters, gate = tmp_path / "parameters", tmp_path / "gate"
    parameters.write_text(
        "max_batch_size { value: 1 } max_enqueued_batches { value: 4 } "
        "num_batch_threads { value: 1 }"
    )
    with (
        running_server(
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            "--grpc_max_threads=32",
            f"--model_base_path={exported(gated_rows).parent}",
            "--model_name=m",
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        request = predict_request(spec(), gate=[str(gate)])
        running = client.future("Predict", request)
        await_(gate.with_name("gate-entered").exists)
        others = [client.future("Predict", request) for _ in range(10)]
        await_(lambda: sum(call.done() for call in others) == 6)
        assert {(c.code().name, c.details()) for c in others if c.done()} == {
            (
                "UNAVAILABLE",
                "The batch scheduling queue to which this task was submitted is full; currently 4 "
                "batches enqueued and max_enqueued_batches is 4",
            )
        }
        enqueued = [call for call in others if not call.done()]
        client.call("HandleReloadConfigRequest", reload_request())
        client.await_states({1: ("UNLOADING", "OK")})
        gate.touch()
        for call in (running, *enqueued):
            assert call.result().outputs["gate"].string_val == [str(gate).encode()]
        client.await_states({1: ("END", "OK")})


def test_a_stop_answers_what_waits_for_more_instead_of_waiting_too(
    exported: Exported, tmp_path: Path
):
    parameters = tmp_path / "parameters"
    parameters.write_text("batch_timeout_micros { value: 3600000000 }")
    results: list[Outputs | ServingError] = []
    with running_server(
        "--enable_batching",
        f"--batching_parameters_file={parameters}",
        f"--model_base_path={exported(rows_of_run).parent}",
    ) as server:
        handle = lease_and_wait(server.core, ModelSpec("default"))

        def done(result: Outputs | ServingError) -> None:
            results.append(result)
            handle.release()

        handle.servable.run({"x:0": floats(1)}, ["rows:0"], RunOptions(), done)
        assert results == []
    assert [output.tolist() for output in results[0]] == [[1]]
