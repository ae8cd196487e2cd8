"""Several instances of a model, over the wire: runs go on at the same time, each in one of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx_models
import prediction_logs as logs
import pytest
import tensorflow as tf
from exported_models import Exported
from stock_clients import (
    Client,
    await_,
    client_of,
    predict_request,
    spec,
    status_request,
    write_config,
)

from batching_models import gated_count
from serving.testing import running_server

ONE_ROW = "max_batch_size { value: 1 } num_batch_threads { value: 2 }"
MODELS = {
    "two": "",
    "two_batched": "",
    "two_adaptive": "",
    "one": "instances_per_model: 1",
    "four": 'devices: "cpu:0" devices: "cpu" devices: "CPU:0" devices: "cpu"',
}
"""By name: what the version says of its own instances."""
BATCHING = {"two_batched": ONE_ROW, "two_adaptive": f"{ONE_ROW} batching_mode: ADAPTIVE"}


@pytest.fixture(scope="module")
def client(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a server with two instances of every model that says nothing else."""
    folder = tmp_path_factory.mktemp("instances")
    for name, parameters in MODELS.items():
        version = shutil.copytree(exported(gated_count), folder / name / "1")
        if parameters:
            (version / "instance_params.pbtxt").write_text(parameters)
        if name in BATCHING:
            (version / "batching_params.pbtxt").write_text(BATCHING[name])
    (folder / "threads").write_text("num_batch_threads { value: 2 }")
    config = write_config(folder / "models.config", {name: folder / name for name in MODELS})
    with (
        running_server(
            "--instances_per_model=2",
            "--grpc_max_threads=16",
            "--enable_batching",
            "--enable_per_model_batching_parameters",
            f"--batching_parameters_file={folder / 'threads'}",
            f"--model_config_file={config}",
        ) as server,
        client_of(server.grpc_port) as made,
    ):
        yield made


def numbers(client: Client, model: str, gates: Sequence[Path]) -> list[int]:
    """What runs tell that are in progress at the same time: how many each instance has had."""
    calls: list[Any] = [
        client.future("Predict", predict_request(spec(model), gate=[str(gate)])) for gate in gates
    ]
    await_(lambda: all(gate.with_name(f"{gate.name}-entered").exists() for gate in gates))
    for gate in gates:
        gate.touch()
    return sorted(int(tf.make_ndarray(call.result().outputs["number"])[0]) for call in calls)


@pytest.mark.parametrize("model", ["two", "two_batched", "two_adaptive"])
def test_two_runs_at_the_same_time_are_in_two_instances(client: Client, tmp_path: Path, model: str):
    """Each instance counts its own runs; the gates open only when both runs are under way."""
    assert numbers(client, model, [tmp_path / "a", tmp_path / "b"]) == [1, 1]
    assert numbers(client, model, [tmp_path / "c", tmp_path / "d"]) == [2, 2]


def test_a_version_may_say_otherwise(client: Client, tmp_path: Path):
    assert numbers(client, "one", [tmp_path / "a", tmp_path / "b"]) == [1, 2]
    for names, runs in (("cd", [1, 1]), ("ef", [1, 1]), ("gh", [2, 2])):
        assert numbers(client, "four", [tmp_path / name for name in names]) == runs


@pytest.mark.parametrize("flag", ["--access_log={}/access.log", "--log_format=json"])
def test_each_instance_is_warmed_up_also_where_calls_are_observed(
    exported: Exported, tmp_path: Path, flag: str
):
    open_gate = tmp_path / "open"
    open_gate.touch()
    version = shutil.copytree(exported(gated_count), tmp_path / "m" / "1")
    logs.write_warm_up(version, logs.of_predict(gate=[str(open_gate)]))
    with (
        running_server(
            "--instances_per_model=2",
            "--model_name=m",
            f"--model_base_path={tmp_path / 'm'}",
            flag.format(tmp_path),
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        assert numbers(client, "m", [tmp_path / "a", tmp_path / "b"]) == [2, 2]


def test_a_version_for_a_device_that_is_not_there_ends_with_that_error(tmp_path: Path):
    base = tmp_path / "m"
    onnx_models.half_plus_two(base / "1")
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "onnx" }} }}'
    )
    with (
        running_server(
            "--devices=cpu:0",
            "--max_num_load_retries=0",
            "--version_settle_seconds=0",
            f"--model_config_file={config}",
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        unfinished = onnx_models.half_plus_two(tmp_path / "unfinished")
        (unfinished / "instance_params.pbtxt").write_text('devices: "gpu:7"')
        unfinished.rename(base / "2")
        expected = {1: ("AVAILABLE", "OK"), 2: ("END", "FAILED_PRECONDITION")}
        client.await_states(expected)
        states = client.call("GetModelStatus", status_request(spec())).model_version_status
        (text,) = [state.status.error_message for state in states if state.version == 2]
        assert text == (
            "{name: m version: 2} is to run on gpu:7, which its platform does not have here; "
            "it has cpu:0"
        )
        assert client.predict(spec(), x=[[2.0]])["y"].tolist() == [[3.0]]
