"""Warm-up in a whole server: versions serve once their requests have run, and not before."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import exported_models as models
import numpy as np
import onnx_models
import prediction_logs as logs
import pytest
from exported_models import Exported
from stock_clients import (
    Client,
    await_,
    client_of,
    reload_request,
    write_config,
)
from tensorflow_serving.apis import model_management_pb2

from batching_models import gated_rows
from serving.core.errors import Code, ServingError
from serving.metrics.warm_up_metrics import WARM_UP_RECORDS
from serving.model_server import ModelServer
from serving.testing import running_server

LOADING = {1: ("LOADING", "OK")}
AVAILABLE = {1: ("AVAILABLE", "OK")}
BATCHING = "max_batch_size { value: 2 } batch_timeout_micros { value: 1000 }"

Flags = tuple[str, ...]


def copy_of(exported: Path, base: Path, *records: object) -> Path:
    """A base path with one version, which has these requests for its warm-up."""
    unfinished = shutil.copytree(exported, base.with_name(f"{base.name}-unfinished"))
    logs.write_warm_up(unfinished, *records)
    base.mkdir()
    unfinished.rename(base / "1")
    return base


@pytest.fixture(params=["one by one", "batched"])
def batching(request: pytest.FixtureRequest, tmp_path: Path) -> Flags:
    if request.param == "one by one":
        return ()
    parameters = tmp_path / "batching.pbtxt"
    parameters.write_text(BATCHING)
    return ("--enable_batching", f"--batching_parameters_file={parameters}")


def reload_of(**bases: Path) -> model_management_pb2.ReloadConfigRequest:
    """These models, by name, and no others."""
    return reload_request(*({"name": name, "base_path": str(base)} for name, base in bases.items()))


def entered(gate: Path) -> Callable[[], bool]:
    return gate.with_name(f"{gate.name}-entered").exists


def test_a_version_is_available_only_once_its_requests_have_run(
    exported: Exported, tmp_path: Path, batching: Flags
):
    half, gate = exported(models.half_plus_two).parent, tmp_path / "gate"
    config = write_config(tmp_path / "models.config", {"half": half})
    with (
        running_server(f"--model_config_file={config}", *batching) as server,
        client_of(server.grpc_port) as client,
    ):
        gated = copy_of(exported(gated_rows), tmp_path / "g", logs.of_predict(gate=[str(gate)]))
        request = reload_of(half=half, g=gated)
        reloading = client.future("HandleReloadConfigRequest", request)
        await_(entered(gate), lambda: "a request that runs")
        assert client.states("g") == LOADING
        gate.touch()
        assert reloading.result().status.error_code == Code.OK
        assert client.states("g") == AVAILABLE


class TwoRequests(NamedTuple):
    """A version ``g`` that warms up: its first request runs until the file ``first`` is there."""

    server: ModelServer
    client: Client
    first: Path
    second: Path
    reloading: Any


@pytest.fixture
def half(exported: Exported) -> Path:
    return exported(models.half_plus_two).parent


@contextmanager
def warming_up(exported: Exported, place: Path, half: Path) -> Iterator[TwoRequests]:
    """A server that serves ``half``, and within the block the first request of ``g`` runs."""
    first, second = place / "1st", place / "2nd"
    config = write_config(place / "models.config", {"half": half})
    records = [logs.of_predict(gate=[str(gate)]) for gate in (first, second)]
    gated = copy_of(exported(gated_rows), place / "g", *records)
    with (
        running_server(f"--model_config_file={config}") as server,
        client_of(server.grpc_port) as client,
    ):
        reloading = client.future("HandleReloadConfigRequest", reload_of(half=half, g=gated))
        await_(entered(first), lambda: "a request that runs")
        yield TwoRequests(server, client, first, second, reloading)


def test_a_load_that_is_not_wanted_any_more_warms_up_no_further(
    exported: Exported, tmp_path: Path, half: Path
):
    with warming_up(exported, tmp_path, half) as run:
        run.client.call("HandleReloadConfigRequest", reload_of(half=half))
        run.first.touch()
        run.client.await_states({1: ("END", "CANCELLED")}, "g")
        assert not entered(run.second)()
        run.reloading.result()


def test_a_server_that_stops_while_it_warms_up_does_not_go_on(
    exported: Exported, tmp_path: Path, half: Path
):
    with warming_up(exported, tmp_path, half) as run:

        def let_it_go_on_once_cancelled(state: object) -> None:
            run.first.touch()

        run.server.core.bus.subscribe(let_it_go_on_once_cancelled)  # half's unload is announced
    assert not entered(run.second)()
    assert run.reloading.code() is not None


def test_requests_run_through_the_batching_of_the_version(exported: Exported, tmp_path: Path):
    """What it refuses, warm-up can not have run elsewhere."""
    parameters = tmp_path / "batching.pbtxt"
    parameters.write_text(BATCHING)
    three_rows = logs.of_predict(x=np.float32([[1], [2], [3]]))
    half = copy_of(exported(models.half_plus_two), tmp_path / "half", three_rows)
    with (
        pytest.raises(ServingError, match=r"INVALID_ARGUMENT.*[Bb]atch"),
        running_server(
            f"--model_base_path={half}",
            "--max_num_load_retries=0",
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
        ),
    ):
        pass


def bad_half(exported: Exported, tmp_path: Path) -> Path:
    request = logs.of_predict(z=[1.0])
    return copy_of(exported(models.half_plus_two), tmp_path / "half", request)


def test_a_request_that_fails_fails_the_version(exported: Exported, tmp_path: Path):
    good = exported(models.half_plus_two).parent
    config = write_config(tmp_path / "models.config", {"good": good})
    with (
        running_server(f"--model_config_file={config}", "--max_num_load_retries=0") as server,
        client_of(server.grpc_port) as client,
    ):
        request = reload_of(good=good, bad=bad_half(exported, tmp_path))
        _, text = client.failure("HandleReloadConfigRequest", request)
        assert "not found in request" in text
        assert client.states("bad") == {1: ("END", "INVALID_ARGUMENT")}


def test_without_warm_up_the_requests_do_not_matter(exported: Exported, tmp_path: Path):
    half = bad_half(exported, tmp_path)
    with (
        running_server(
            f"--model_base_path={half}", "--model_name=bad", "--enable_model_warmup=false"
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        assert client.states("bad") == AVAILABLE


def test_records_are_counted_by_version_and_outcome(exported: Exported, tmp_path: Path):
    records = [logs.of_predict(x=np.float32([[1]]))] * 2
    half = copy_of(exported(models.half_plus_two), tmp_path / "half", *records)
    with running_server(f"--model_base_path={half}", "--num_request_iterations_for_warmup=5") as it:
        counts = it._metrics.snapshot()[WARM_UP_RECORDS].cells
    assert counts == {(str(half / "1"), "OK"): 2}


def test_versions_of_every_platform_are_warmed_up(tmp_path: Path):
    """One request of each file is wrong, which only they could tell."""
    onnx_models.half_plus_two(tmp_path / "half" / "1")
    (tmp_path / "table" / "1").mkdir(parents=True)
    (tmp_path / "table" / "1" / "table.csv").write_text("one,1\n")
    for name in ("half", "table"):
        logs.write_warm_up(tmp_path / name / "1", logs.of_predict("no_such_signature"))
    config = tmp_path / "models.config"
    listed = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "{platform}" }}'
        for name, platform in (("half", "onnx"), ("table", "hashmap"))
    )
    config.write_text(f"model_config_list {{ {listed} }}")
    with (
        pytest.raises(ServingError) as raised,
        running_server(f"--model_config_file={config}", "--max_num_load_retries=0"),
    ):
        pass
    assert raised.value.message.count('Serving signature key "no_such_signature" not found') == 2
