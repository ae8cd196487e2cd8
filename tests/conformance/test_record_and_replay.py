"""From logged calls to a warm-up file, and logged calls sent again, with real servers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import exported_models as models
import numpy as np
import prediction_logs as logs
import pytest
from exported_models import Exported
from stock_clients import (
    classify_request,
    client_of,
    example,
    floats,
    multi_inference_request,
    predict_request,
    regress_request,
    spec,
)

from serving.cli import main
from serving.metrics.warm_up_metrics import WARM_UP_RECORDS
from serving.model_server import ModelServer
from serving.testing import running_server

HALF = spec("half")


@pytest.fixture(scope="module")
def log(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of a log with one call of each verb, the first of them twice."""
    folder = tmp_path_factory.mktemp("log")
    entry = {
        "name": "half",
        "base_path": str(exported(models.half_plus_two).parent),
        "logging_config": {
            "log_collector_config": {"type": "tfrecord", "filename_prefix": f"{folder}/half"},
            "sampling_config": {"sampling_rate": 1.0},
        },
    }
    config = folder / "models.json"
    config.write_text(json.dumps({"model_config_list": [entry]}))
    with (
        running_server(f"--model_config_file={config}") as server,
        client_of(server.grpc_port) as client,
    ):
        for _ in range(2):
            client.call("Predict", predict_request(HALF, x=floats([1], [2])))
        of_classify, of_regress = spec("half", "classify_x_to_y"), spec("half", "regress_x_to_y")
        client.call("Classify", classify_request(of_classify, example(x=1)))
        client.call("Regress", regress_request(of_regress, example(x=1)))
        tasks = ((of_classify, "classify"), (of_regress, "regress"))
        client.call("MultiInference", multi_inference_request(*tasks, examples=(example(x=2),)))
    return folder / "half"


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Serves ``half`` as it was logged, and ``x``, which takes other inputs."""
    folder = tmp_path_factory.mktemp("served")
    listed = {"half": models.half_plus_two, "x": models.matmul}
    entries = [
        {"name": name, "base_path": str(exported(exporter).parent)}
        for name, exporter in listed.items()
    ]
    config = folder / "models.json"
    config.write_text(json.dumps({"model_config_list": entries}))
    with running_server(f"--model_config_file={config}") as running:
        yield running


def replayed(server: ModelServer, log: Path, *arguments: str) -> int:
    return main(
        ["replay", f"--request_log={log}", f"--server=127.0.0.1:{server.grpc_port}", *arguments]
    )


def test_a_warm_up_file_of_logged_calls_warms_a_version_up(
    log: Path, exported: Exported, tmp_path: Path
):
    version = shutil.copytree(exported(models.half_plus_two), tmp_path / "half" / "1")
    output = version / "assets.extra" / "tf_serving_warmup_requests"
    assert main(["record", f"--request_log={log}", f"--output={output}"]) == 0
    with running_server(f"--model_base_path={tmp_path}/half") as warmed:
        counts = warmed._metrics.counter(WARM_UP_RECORDS, "", ("model_path", "status"))
        assert counts.cells() == {(str(version), "OK"): 4}


def test_the_same_model_answers_the_same(server: ModelServer, log: Path, capsys):
    assert replayed(server, log) == 0
    assert capsys.readouterr().out == (
        "5 calls: 5 the same, 0 different, 0 failed, 0 with nothing to compare\n"
    )


def answered_before(log: Path, tmp_path: Path, y: float) -> Path:
    """A log of one call, whose answer is made up."""
    call = logs.of_predict("", "half", x=np.float32([[1.0]]))
    outputs = logs.of_predict("", "half", y=np.float32([[y]])).predict_log.request.inputs
    call.predict_log.response.outputs["y"].CopyFrom(outputs["y"])
    return logs.write_warm_up(tmp_path, call)


def test_another_answer_is_reported_unless_it_is_near_enough(
    server: ModelServer, log: Path, tmp_path: Path, capsys
):
    path = answered_before(log, tmp_path, 2.75)
    assert replayed(server, path) == 1
    assert capsys.readouterr().out == (
        "record 1 (Predict of half): output y: 1 of 1 values differ, the most at [0, 0]: 2.5, "
        "not 2.75\n1 calls: 0 the same, 1 different, 0 failed, 0 with nothing to compare\n"
    )
    assert replayed(server, path, "--absolute_tolerance=0.5") == 0
    assert replayed(server, path, "--relative_tolerance=0.5") == 0


def test_a_call_that_fails_is_reported(server: ModelServer, log: Path, capsys):
    assert replayed(server, log, "--model_name=x", "--max_reported=1") == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("record 1 (Predict of x): INVALID_ARGUMENT: ")
    assert last == "5 calls: 0 the same, 0 different, 5 failed, 0 with nothing to compare"


def test_a_version_can_be_asked_for(server: ModelServer, log: Path, capsys):
    assert replayed(server, log, "--version=1") == 0
    assert replayed(server, log, "--version=7") == 1
    assert "NOT_FOUND" in capsys.readouterr().out


def test_requests_without_answers_are_sent(server: ModelServer, log: Path, tmp_path: Path, capsys):
    output = tmp_path / "requests"
    main(["record", f"--request_log={log}", f"--output={output}"])
    capsys.readouterr()
    assert replayed(server, output) == 0
    assert "4 with nothing to compare" in capsys.readouterr().out


def test_without_a_server_that_is_said(log: Path, capsys):
    status = main(["replay", f"--request_log={log}", "--server=127.0.0.1:1"])
    assert status == 2
    assert capsys.readouterr().err.startswith(
        "model_server replay: UNAVAILABLE: 127.0.0.1:1 does not answer: "
    )
