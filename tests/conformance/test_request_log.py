"""The request log of a whole server: which calls of which APIs it holds, and when."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import exported_models as models
import pytest
import tensorflow as tf
from exported_models import Exported, v1
from program import program
from stock_clients import (
    WAIT_SECONDS,
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
)
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from waiting import START_SECONDS

from serving.core.errors import ServingError
from serving.metrics.request_log_metrics import request_log_count
from serving.model_server import ModelServer
from serving.testing import running_server


def logging(folder: Path, rate: float = 1.0, kind: str = "tfrecord") -> dict[str, object]:
    """A logging_config as the fields of a ModelConfig."""
    return {
        "log_collector_config": {"type": kind, "filename_prefix": str(folder / "log")},
        "sampling_config": {"sampling_rate": rate},
    }


def config_of(folder: Path, *entries: dict[str, object]) -> str:
    """The flag that names a configuration file with these models."""
    path = folder / "models.json"
    path.write_text(json.dumps({"model_config_list": list(entries)}))
    return f"--model_config_file={path}"


def records(folder: Path) -> list[PredictionLog]:
    """What TensorFlow's own reader finds."""
    return [
        PredictionLog.FromString(record)
        for path in sorted(folder.glob("log-*.tfrecord"))
        for record in v1.io.tf_record_iterator(str(path))
    ]


def rest(server: ModelServer, verb: str, body: dict[str, object], model: str = "m") -> object:
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/{model}:{verb}"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=WAIT_SECONDS) as answer:
        return json.load(answer)


@pytest.fixture(scope="module", params=["one by one", "batched"])
def logged(
    request: pytest.FixtureRequest, exported: Exported, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ModelServer, Path]]:
    """Serves ``m`` with a log in the folder, and ``quiet`` without."""
    folder = tmp_path_factory.mktemp("logged")
    half = str(exported(models.half_plus_two).parent)
    flag = config_of(
        folder,
        {"name": "m", "base_path": half, "logging_config": logging(folder)},
        {"name": "quiet", "base_path": half},
    )
    batching = ("--enable_batching",) if request.param == "batched" else ()
    with running_server(flag, *batching) as server:
        yield server, folder


@pytest.fixture
def client(logged: tuple[ModelServer, Path]) -> Iterator[Client]:
    with client_of(logged[0].grpc_port) as made:
        yield made


def next_record(
    logged: tuple[ModelServer, Path], call: Callable[[], object]
) -> tuple[PredictionLog, object]:
    """The one record that a call leaves, and the answer to the call."""
    before = len(records(logged[1]))
    answer = call()
    await_(lambda: len(records(logged[1])) == before + 1, lambda: "one more record")
    return records(logged[1])[-1], answer


GRPC = {
    "Predict": (predict_request(spec(), x=floats([1], [2])), "predict_log"),
    "Classify": (classify_request(spec("m", "classify_x_to_y"), example(x=1)), "classify_log"),
    "Regress": (regress_request(spec("m", "regress_x_to_y"), example(x=1)), "regress_log"),
    "MultiInference": (
        multi_inference_request(
            (spec("m", "regress_x_to_y"), "regress"),
            (spec("m", "classify_x_to_y"), "classify"),
            examples=(example(x=1),),
        ),
        "multi_inference_log",
    ),
}


@pytest.mark.parametrize("method", GRPC)
def test_a_grpc_call_is_logged_as_it_was_on_the_wire(method: str, logged, client: Client):
    request, kind = GRPC[method]
    record, answer = next_record(logged, lambda: client.call(method, request))
    log = getattr(record, kind)
    assert log.request == request
    assert log.response == answer
    assert record.log_metadata.model_spec.name == "m"
    assert record.log_metadata.model_spec.version.value == 1
    assert record.log_metadata.sampling_config.sampling_rate == 1.0
    assert list(record.log_metadata.saved_model_tags) == ["serve"]


def test_predict_over_rest_is_logged_as_grpc_would_have_it(logged, client: Client):
    record, answer = next_record(
        logged, lambda: rest(logged[0], "predict", {"instances": [[1.0], [2.0]]})
    )
    assert answer == {"predictions": [[2.5], [3.0]]}
    request = record.predict_log.request
    assert tf.make_ndarray(request.inputs["x"]).tolist() == [[1.0], [2.0]]
    _, of_grpc = next_record(logged, lambda: client.call("Predict", request))
    assert record.predict_log.response == of_grpc


@pytest.mark.parametrize(("verb", "method"), [("classify", "Classify"), ("regress", "Regress")])
def test_examples_over_rest_are_logged_as_grpc_would_have_them(
    verb: str, method: str, logged, client: Client
):
    body = {"signature_name": f"{verb}_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}
    record, _ = next_record(logged, lambda: rest(logged[0], verb, body))
    log = getattr(record, f"{verb}_log")
    assert len(log.request.input.example_list.examples) == 2
    _, of_grpc = next_record(logged, lambda: client.call(method, log.request))
    assert log.response == of_grpc


def test_calls_that_fail_and_models_without_a_log_leave_no_record(logged, client: Client):
    server, folder = logged
    before = len(records(folder))
    client.failure("Predict", predict_request(spec(), z=floats(1)))
    with pytest.raises(urllib.error.HTTPError):
        rest(server, "predict", {"instances": ["text"]})
    client.predict(spec("quiet"), x=floats([1]))
    rest(server, "predict", {"instances": [[1.0]]}, "quiet")
    client.predict(spec(), x=floats([7]))  # comes after all of these in the file
    await_(lambda: len(records(folder)) > before, lambda: "a record")
    found = records(folder)[before:]
    assert [
        tf.make_ndarray(record.predict_log.request.inputs["x"]).tolist() for record in found
    ] == [[[7.0]]]


def test_a_reload_begins_changes_and_ends_logs(exported: Exported, tmp_path: Path):
    half = str(exported(models.half_plus_two).parent)

    def entry(**fields: object) -> dict[str, object]:
        return {"name": "m", "base_path": half, **fields}

    flag = config_of(tmp_path, entry())
    with running_server(flag) as server, client_of(server.grpc_port) as client:

        def reload_and_predict(x: float, **fields: object) -> None:
            client.call("HandleReloadConfigRequest", reload_request(entry(**fields)))
            client.predict(spec(), x=floats([x]))

        reload_and_predict(1)
        reload_and_predict(2, logging_config=logging(tmp_path / "first"))
        reload_and_predict(3, logging_config=logging(tmp_path / "first"))
        reload_and_predict(4, logging_config=logging(tmp_path / "second"))
        reload_and_predict(5)
    values = {
        name: [
            tf.make_ndarray(record.predict_log.request.inputs["x"]).item()
            for record in records(tmp_path / name)
        ]
        for name in ("first", "second")
    }
    assert values == {"first": [2, 3], "second": [4]}
    assert len(list((tmp_path / "first").iterdir())) == 1
    assert request_log_count(server._metrics).cells() == {("m", "OK"): 3}


def test_the_thread_that_writes_ends_with_the_server(exported: Exported, tmp_path: Path):
    half = str(exported(models.half_plus_two).parent)
    entry = {"name": "m", "base_path": half, "logging_config": logging(tmp_path)}
    others = set(threading.enumerate())

    def writers() -> list[str]:
        names = [thread.name for thread in set(threading.enumerate()) - others]
        return [name for name in names if name == "request_log"]

    with running_server(config_of(tmp_path, entry)):
        assert writers() == ["request_log"]
    assert writers() == []


def test_a_reload_with_a_log_that_can_not_be_written_changes_nothing(
    exported: Exported, tmp_path: Path
):
    (tmp_path / "file").touch()
    half = str(exported(models.half_plus_two).parent)
    flag = config_of(
        tmp_path,
        {"name": "m", "base_path": half, "logging_config": logging(tmp_path / "good")},
    )
    bad = {"name": "m", "base_path": half, "logging_config": logging(tmp_path / "file")}
    with running_server(flag) as server, client_of(server.grpc_port) as client:
        code, text = client.failure("HandleReloadConfigRequest", reload_request(bad))
        assert code == "FAILED_PRECONDITION"
        assert text.startswith("Model m: logging_config.log_collector_config.filename_prefix: ")
        client.predict(spec(), x=floats([1]))
    assert len(records(tmp_path / "good")) == 1


def test_a_server_does_not_start_with_a_log_that_can_not_be(exported: Exported, tmp_path: Path):
    half = str(exported(models.half_plus_two).parent)
    entry = {"name": "m", "base_path": half, "logging_config": logging(tmp_path, rate=1.5)}
    with (
        pytest.raises(ServingError, match=r"sampling_rate must be between 0 and 1, not 1\.5"),
        running_server(config_of(tmp_path, entry)),
    ):
        pass


def test_each_worker_writes_files_of_its_own_and_leaves_no_record_behind(tmp_path: Path):
    base = tmp_path / "table"
    (base / "1").mkdir(parents=True)
    (base / "1" / "table.csv").write_text("one,1\n")
    flag = config_of(
        tmp_path,
        {
            "name": "m",
            "base_path": str(base),
            "model_platform": "hashmap",
            "logging_config": logging(tmp_path),
        },
    )
    request = predict_request(spec(), keys=[b"one"])
    calls = 0
    with program("--num_workers=2", "--version_settle_seconds=0", flag) as running:
        port = int(
            running.await_log(
                r"Running gRPC ModelServer at 127\.0\.0\.1:(\d+) \.\.\.", START_SECONDS
            )[1]
        )
        running.await_log("2 workers serve", START_SECONDS)

        def call() -> bool:
            nonlocal calls
            with client_of(port) as client:
                client.call("Predict", request)
            calls += 1
            return len(list(tmp_path.glob("log-*.tfrecord"))) == 2

        await_(call, lambda: "connections to both workers")
        running.process.terminate()
        assert running.end()[0] == 0
    assert len(records(tmp_path)) == calls
