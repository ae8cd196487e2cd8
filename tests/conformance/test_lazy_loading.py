"""Models that load when a client first asks for them, over the wire."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
from exported_models import version_number
from odd_models import gated_load
from stock_clients import client_of, predict_request, publish, spec, write_config

from serving.testing import running_server

AVAILABLE = ("AVAILABLE", "OK")


@contextmanager
def opened_in_the_end(gate: Path) -> Iterator[None]:
    """A server whose load never ends could not be stopped when the test fails."""
    try:
        yield
    finally:
        gate.touch()


def test_a_first_request_that_hangs_keeps_no_other_from_being_answered(tmp_path: Path) -> None:
    """REST has one thread, which a call that waits for the load does not keep."""
    gate = tmp_path / "gate"
    publish(gated_load, tmp_path / "n", 1, gate=gate)
    for name in ("cold", "warm"):
        publish(version_number, tmp_path / name, 7)
    config = write_config(
        tmp_path / "models.config", {name: tmp_path / name for name in ("n", "cold", "warm")}
    )
    flags = (
        f"--model_config_file={config}",
        "--load_on_first_request",
        "--version_settle_seconds=0",
        "--rest_api_num_threads=1",
        "--rest_api_timeout_in_ms=200",
    )
    with (
        running_server(*flags) as server,
        client_of(server.grpc_port) as client,
        opened_in_the_end(gate),
    ):
        assert client.states("n") == {1: ("START", "OK")}
        assert client.predict(spec("warm"), x=[0.0])["version"] == 7
        waiting = [client.future("Predict", predict_request(spec("n"), x=[0.0])) for _ in range(3)]
        client.await_states({1: ("LOADING", "OK")}, "n")
        assert _over_rest(server.rest_port, "n") == (
            504,
            {"error": "The deadline passed before servable {name: n version: 1} was loaded"},
        )
        assert _over_rest(server.rest_port, "warm") == (200, {"predictions": [7]})
        for name in ("warm", "cold"):
            assert client.predict(spec(name), x=[0.0])["version"] == 7
        assert not any(call.done() for call in waiting)
        gate.touch()
        assert [list(call.result().outputs["version"].int64_val) for call in waiting] == [[1]] * 3
        assert client.states("n") == {1: AVAILABLE}


def test_a_client_that_waits_for_no_longer_gets_the_model_next_time(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    publish(gated_load, tmp_path / "m", 1, gate=gate)
    flags = (
        "--model_name=m",
        f"--model_base_path={tmp_path / 'm'}",
        "--load_on_first_request",
        "--version_settle_seconds=0",
    )
    with (
        running_server(*flags) as server,
        client_of(server.grpc_port) as client,
        opened_in_the_end(gate),
    ):
        call = client.predictions.Predict.future(predict_request(spec(), x=[0.0]), timeout=0.2)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        client.await_states({1: ("LOADING", "OK")})
        gate.touch()
        assert client.predict(spec(), x=[0.0])["version"] == 1


def _over_rest(port: int, name: str) -> tuple[int, object]:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("POST", f"/v1/models/{name}:predict", '{"instances": [0.0]}')
        response = connection.getresponse()
        return response.status, json.loads(response.read())
