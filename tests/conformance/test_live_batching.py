"""Batching beyond TensorFlow Serving's, over the wire and while it runs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from exported_models import Exported
from stock_clients import (
    Client,
    await_,
    client_of,
    floats,
    predict_request,
    reload_request,
    spec,
    write_config,
)

from batching_models import gated_rows, rows_of_run
from serving.model_server import ModelServer
from serving.testing import running_server

ONE_BY_ONE = "num_batch_threads { value: 1 } max_batch_size { value: 1 } "
A_HOUR = "batch_timeout_micros { value: 3600000000 }"


class Gated:
    """A model on one batch thread, each of whose runs waits for a file of its own."""

    def __init__(self, client: Client, server: ModelServer, folder: Path) -> None:
        self.client = client
        self.grpc_port, self.rest_port = server.grpc_port, server.rest_port
        self._server = server
        self._folder = folder
        self._calls: dict[str, Any] = {}  # a call that nobody holds is cancelled

    @property
    def num_waiting(self) -> int:
        """Requests in the model's queues, which have a row each."""
        return sum(self._server._wrapped._batched.waiting_rows().values())

    def send(self, name: str, **options: Any) -> Any:
        """The call in progress."""
        predict = self.client.predictions.Predict
        request = predict_request(spec(), gate=[str(self._folder / name)])
        self._calls[name] = predict.future(request, **{"timeout": 60, **options})
        return self._calls[name]

    def open(self, *names: str) -> None:
        for name in names:
            (self._folder / name).touch()

    def open_all(self) -> None:
        self.open(*self._calls)

    def await_entered(self, name: str) -> None:
        await_((self._folder / f"{name}-entered").exists)

    def entered(self, *names: str) -> list[str]:
        """Those that have begun to run, in that order."""
        files = [self._folder / f"{name}-entered" for name in names]
        begun = sorted(
            (file for file in files if file.exists()), key=lambda f: f.stat().st_mtime_ns
        )
        return [file.name.removesuffix("-entered") for file in begun]


@contextmanager
def gated(exported: Exported, folder: Path, parameters: str, *flags: str) -> Iterator[Gated]:
    file = folder / "parameters"
    file.write_text(ONE_BY_ONE + parameters)
    with (
        running_server(
            "--enable_batching",
            f"--batching_parameters_file={file}",
            f"--model_base_path={exported(gated_rows).parent}",
            "--model_name=m",
            *flags,
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        model = Gated(client, server, folder)
        try:
            yield model
        finally:
            model.open_all()


def test_parameters_are_read_again_while_the_server_runs(exported: Exported, tmp_path: Path):
    parameters = tmp_path / "parameters"
    parameters.write_text(A_HOUR)
    with (
        running_server(
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            "--model_config_file_poll_wait_seconds=1",
            f"--model_base_path={exported(rows_of_run).parent}",
            "--model_name=m",
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        waiting = client.future("Predict", predict_request(spec(), x=floats(1)))
        rewritten = tmp_path / "rewritten"  # put there whole, as it may be read at any moment
        rewritten.write_text(f"{A_HOUR} batching_mode: ADAPTIVE")
        rewritten.replace(parameters)
        assert waiting.result().outputs["x"].float_val == [1]
        assert client.predict(spec(), x=floats(2))["x"].tolist() == [2]


def test_a_reload_reads_the_parameters_too_and_wrong_ones_change_nothing(
    exported: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    parameters, base = tmp_path / "parameters", exported(rows_of_run).parent
    parameters.write_text("max_batch_size { value: 1 }")
    with (
        running_server(
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            f"--model_base_path={base}",
            "--model_name=m",
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        request = predict_request(spec(), x=floats(1, 2))
        too_large = ("INVALID_ARGUMENT", "Task size 2 is larger than maximum input batch size 1")
        assert client.failure("Predict", request) == too_large
        again = reload_request({"name": "m", "base_path": str(base)})

        parameters.write_text("max_batch_size { value: 0 }")
        client.call("HandleReloadConfigRequest", again)
        assert "batching goes on as before" in caplog.text
        assert "input_batch_size_limit must be positive; was 0" in caplog.text
        assert client.failure("Predict", request) == too_large

        parameters.write_text("max_batch_size { value: 2 }")
        client.call("HandleReloadConfigRequest", again)
        assert client.predict(spec(), x=floats(1, 2))["x"].tolist() == [1, 2]


def test_the_priority_in_the_metadata_says_who_is_next(exported: Exported, tmp_path: Path):
    with gated(exported, tmp_path, "honor_priorities: true") as model:
        first = model.send("first")
        model.await_entered("first")
        low = model.send("low", metadata=[("x-request-priority", "low")])
        normal = model.send("normal")
        high = model.send("high", metadata=[("x-request-priority", "High")])
        wrong = model.send("wrong", metadata=[("x-request-priority", "urgent")])
        assert wrong.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "x-request-priority must be one of high, normal, low" in wrong.details()
        await_(lambda: model.num_waiting == 3)
        names = ("first", "high", "normal", "low")
        model.open(*names)
        for call in (first, low, normal, high):
            call.result()
        assert model.entered(*names) == list(names)


def test_a_reload_has_priorities_honored_and_no_more(exported: Exported, tmp_path: Path):
    urgent = {"metadata": [("x-request-priority", "urgent")]}
    with gated(exported, tmp_path, "") as model:
        again = reload_request({"name": "m", "base_path": str(exported(gated_rows).parent)})
        (tmp_path / "parameters").write_text(f"{ONE_BY_ONE} honor_priorities: true")
        model.client.call("HandleReloadConfigRequest", again)
        assert model.send("a", **urgent).code() is grpc.StatusCode.INVALID_ARGUMENT
        body = json.dumps({"instances": [str(tmp_path / "a")]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{model.rest_port}/v1/models/m:predict",
            body,
            {"x-request-priority": "urgent"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused, urllib.request.urlopen(request):
            pass
        assert refused.value.code == 400
        refused.value.close()

        (tmp_path / "parameters").write_text(ONE_BY_ONE)
        model.client.call("HandleReloadConfigRequest", again)
        model.open("a")
        model.send("a", **urgent).result()


def test_without_being_told_to_priorities_are_not_looked_at(exported: Exported, tmp_path: Path):
    with gated(exported, tmp_path, "") as model:
        model.open("a")
        model.send("a", metadata=[("x-request-priority", "urgent")]).result()


def test_a_call_that_its_client_gives_up_leaves_its_place_to_another(
    exported: Exported, tmp_path: Path
):
    with gated(exported, tmp_path, "max_enqueued_batches { value: 1 }") as model:
        running = model.send("running")
        model.await_entered("running")
        given_up = model.send("given up")
        await_(lambda: model.num_waiting == 1)
        assert model.send("refused").code() is grpc.StatusCode.UNAVAILABLE
        given_up.cancel()
        await_(lambda: model.num_waiting == 0)
        model.open("running", "next")
        assert model.send("next").code() is grpc.StatusCode.OK
        running.result()
        assert model.entered("given up") == []


def test_what_would_wait_past_its_deadline_is_refused_at_once_with_a_hint(
    exported: Exported, tmp_path: Path
):
    flag = "--rest_api_timeout_in_ms=1000"
    with gated(exported, tmp_path, "admission_control: true", flag) as model:
        slow = model.send("slow")
        model.await_entered("slow")
        with pytest.raises(grpc.FutureTimeoutError):
            slow.result(timeout=1.5)
        model.open("slow")
        slow.result()
        model.send("running")
        model.await_entered("running")
        model.send("waiting")
        await_(lambda: model.num_waiting == 1)

        late = model.send("late", timeout=1)
        assert late.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "would have to wait for about" in late.details()
        pushback = dict(late.trailing_metadata())["grpc-retry-pushback-ms"]
        assert 1_000 < int(pushback) < 60_000

        body = json.dumps({"instances": [str(tmp_path / "late")]}).encode()
        url = f"http://127.0.0.1:{model.rest_port}/v1/models/m:predict"
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=30)
        with raised.value as refusal:
            assert refusal.code == 429
            assert 1 <= int(refusal.headers["Retry-After"]) <= 60
        model.open("running", "waiting")


def test_other_models_go_on_while_one_hangs_with_its_queue_full(exported: Exported, tmp_path: Path):
    """It holds one of two batch threads, though the other has nothing else to do."""
    parameters, gate = tmp_path / "parameters", tmp_path / "gate"
    parameters.write_text(
        "num_batch_threads { value: 2 } max_batch_size { value: 1 } "
        "max_enqueued_batches { value: 2 } max_batches_in_progress { value: 1 }"
    )
    models = {"hangs": gated_rows, "other": rows_of_run}
    folders = {name: exported(exporter).parent for name, exporter in models.items()}
    with (
        running_server(
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            f"--model_config_file={write_config(tmp_path / 'models.config', folders)}",
        ) as server,
        client_of(server.grpc_port) as client,
    ):
        stuck = predict_request(spec("hangs"), gate=[str(gate)])
        running = client.future("Predict", stuck)
        await_(gate.with_name("gate-entered").exists)
        calls = [client.future("Predict", stuck) for _ in range(3)]
        await_(lambda: any(call.done() for call in calls))
        (refused,) = (call for call in calls if call.done())
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        waiting = [running, *(call for call in calls if call is not refused)]
        for number in range(20):
            assert client.predict(spec("other"), x=floats(number))["x"].tolist() == [number]
        assert not any(call.done() for call in waiting)
        gate.touch()
        for call in waiting:
            assert call.result().outputs["gate"].string_val == [str(gate).encode()]


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_calls_given_up_at_once_leave_a_server_that_answers(
    exported: Exported, tmp_path: Path, count: int
):
    with gated(exported, tmp_path, "max_enqueued_batches { value: 20000 }") as model:
        running = model.send("running")
        model.await_entered("running")
        with client_of(model.grpc_port) as others:
            request = predict_request(spec(), gate=[str(tmp_path / "given up")])
            calls = [others.predictions.Predict.future(request, timeout=60) for _ in range(count)]
            await_(lambda: model.num_waiting == count)
            assert not any(call.done() for call in calls)
        await_(lambda: model.num_waiting == 0)
        model.open("running", "last")
        running.result()
        model.send("last").result()
        assert model.entered("given up") == []
