"""The program as operators run it: exit statuses, what is written where, signals, config files."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from exported_models import version_number
from grpc_health.v1 import health_pb2, health_pb2_grpc
from odd_models import gated, gated_load
from program import PROGRAM, RunningProgram, program
from stock_clients import (
    WAIT_SECONDS,
    Client,
    await_,
    client_of,
    predict_request,
    publish,
    spec,
    status_request,
    write_config,
)
from waiting import START_SECONDS

AVAILABLE, END = ("AVAILABLE", "OK"), ("END", "OK")


def ended(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *flags],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def start_failure(*flags: str) -> str:
    """The one line in which a program that cannot start says why, and its log as well."""
    done = ended("--grpc_bind_address=127.0.0.1:0", *flags)
    assert done.returncode == 255
    assert done.stdout.startswith("Failed to start server. Error: ")
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    text = done.stdout.removeprefix("Failed to start server. Error: ").rstrip("\n")
    assert f"Failed to start server: {text}\n" in done.stderr
    return text


def model_flags(base: Path) -> tuple[str, ...]:
    return ("--model_name=m", f"--model_base_path={base}", "--max_num_load_retries=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("program")


@pytest.fixture(scope="module")
def gated_base(place: Path) -> Path:
    """Of a model whose runs end when the file that they name is there."""
    return publish(gated, place / "gated", 1).parent


@pytest.fixture(scope="module")
def configured(place: Path) -> Iterator[tuple[RunningProgram, Path]]:
    """A program that looks at its config file every second, and that file."""
    for name in "mn":
        publish(version_number, place / name, 1)
    config = write_config(place / "models.config", {name: place / name for name in "mn"})
    flags = (f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    with program(*flags) as running:
        yield running, config


def test_nothing_to_serve() -> None:
    assert start_failure() == (
        "INVALID_ARGUMENT: Both server_options.model_base_path and "
        "server_options.model_config_file are empty!"
    )


def test_nothing_to_listen_on() -> None:
    done = ended("--port=0", "--model_base_path=/m")
    assert done.returncode == 255
    assert done.stdout == (
        "Failed to start server. Error: INVALID_ARGUMENT: At least one of "
        "server_options.grpc_port or server_options.grpc_socket_path must be set.\n"
    )


def test_a_relative_path() -> None:
    assert start_failure("--model_base_path=a/b", "--model_name=n") == (
        "INVALID_ARGUMENT: Expected model n to have an absolute path or URI; got base_path()=a/b"
    )


def test_a_config_file_that_does_not_parse(tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text('model_config_list {\n  config { name "m" }\n  confug {}\n}\n')
    text = start_failure(f"--model_config_file={config}")
    assert text.startswith("INVALID_ARGUMENT: ")
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig at line 2" in text


def test_a_missing_config_file(tmp_path: Path) -> None:
    config = tmp_path / "missing.config"
    text = start_failure(f"--model_config_file={config}")
    assert text == f"NOT_FOUND: {config}; No such file or directory"


def test_a_model_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    done = ended("--grpc_bind_address=127.0.0.1:0", *model_flags(tmp_path))
    assert done.returncode == 255
    # One line, although TensorFlow's text has a line break of its own.
    assert done.stdout == (
        "Failed to start server. Error: UNKNOWN: 1 servable(s) did not become available: "
        "{{{name: m version: 1} due to error: NOT_FOUND: Specified file path does not appear to "
        "contain a SavedModel bundle (should have a file called `saved_model.pb`) "
        f"Specified file path: {tmp_path}/1}}, }}\n"
    )
    assert "Traceback" not in done.stderr


def test_a_port_in_use(gated_base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        text = start_failure(f"--grpc_bind_address={address}", *model_flags(gated_base))
    assert text.startswith(f"UNAVAILABLE: gRPC cannot listen on {address}: ")


def test_a_rest_port_in_use_does_not_stop_grpc(gated_base: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = (f"--rest_bind_address={address}", *model_flags(gated_base))
        with program(*flags) as running, client_of(running.grpc_port) as client:
            running.await_log("Failed to start HTTP Server")
            assert client.predict(spec(), gate=str(gated_base))["version"] == 1


def test_version() -> None:
    done = ended("--version")
    assert done.returncode == 0
    server, library = done.stdout.splitlines()
    assert server.startswith("TensorFlow ModelServer: ")
    assert library == f"TensorFlow Library: {importlib.metadata.version('tensorflow')}"


def test_help() -> None:
    done = ended("--help")
    assert done.returncode == 0
    assert "--model_base_path=" in done.stdout


def test_the_models_of_a_config_file_are_served_on_the_ports_that_it_tells(
    configured: tuple[RunningProgram, Path],
) -> None:
    running, _ = configured
    with client_of(running.grpc_port) as client:
        for name in "mn":
            assert client.predict(spec(name), x=[0.0])["version"] == [1]
    url = f"http://127.0.0.1:{running.rest_port}/v1/models/n"
    with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
        (version,) = json.load(answer)["model_version_status"]
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")


def test_a_changed_config_file_is_applied_and_a_broken_one_is_not(
    configured: tuple[RunningProgram, Path], place: Path
) -> None:
    running, config = configured
    with client_of(running.grpc_port) as client:
        config.write_text("broken")
        running.await_log("the model config file was not applied: .*Error parsing text-format")
        assert client.states("m") == {1: AVAILABLE}

        publish(version_number, place / "added", 4)
        write_config(config, {"n": place / "n", "added": place / "added"})
        client.await_states({4: AVAILABLE}, "added")
        client.await_states({1: END}, "m")
        assert client.predict(spec("n"), x=[0.0])["version"] == [1]
        assert client.predict(spec("added"), x=[0.0])["version"] == [4]


class RestCall:
    """A prediction over a connection of its own, sent at once, whose answer is read later."""

    def __init__(self, port: int, gate: Path) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
        body = json.dumps({"inputs": str(gate)})
        self._connection.request("POST", "/v1/models/m:predict", body)

    def answer(self) -> tuple[int, object]:
        """The HTTP status and the document."""
        with closing(self._connection):
            response = self._connection.getresponse()
            return response.status, json.load(response)


def await_receipt(client: Client, running: RunningProgram) -> None:
    """Return once what was sent before has been received."""
    client.call("GetModelStatus", status_request(spec()))
    url = f"http://127.0.0.1:{running.rest_port}/v1/models/m"
    urllib.request.urlopen(url, timeout=WAIT_SECONDS).close()


def await_refusal(port: int) -> None:
    """Return once nobody listens any more."""

    def refused() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS).close()
        except OSError:
            return True
        return False

    await_(refused)


def test_the_first_signal_lets_calls_in_progress_end(gated_base: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    flags = (*model_flags(gated_base), "--rest_api_num_threads=1")
    with program(*flags) as running, client_of(running.grpc_port) as client:
        ports = running.grpc_port, running.rest_port
        over_grpc = client.future("Predict", predict_request(spec(), gate=str(gate)))
        # The second waits for the one thread.
        over_rest = [RestCall(ports[1], gate) for _ in range(2)]
        await_receipt(client, running)

        running.send(signal.SIGTERM)
        for port in ports:
            await_refusal(port)
        gate.touch()
        assert list(over_grpc.result().outputs["version"].int64_val) == [1]
        assert [call.answer() for call in over_rest] == [(200, {"outputs": 1})] * 2
        assert running.end() == (0, "")
        assert "Traceback" not in running.log


def test_what_outlasts_the_grace_is_cut_and_the_program_ends(
    gated_base: Path, tmp_path: Path
) -> None:
    flags = (*model_flags(gated_base), "--shutdown_grace_seconds=0.2")
    with program(*flags) as running, client_of(running.grpc_port) as client:
        never = tmp_path / "never"
        over_grpc = client.future("Predict", predict_request(spec(), gate=str(never)))
        over_rest = RestCall(running.rest_port, never)
        await_receipt(client, running)
        running.send(signal.SIGTERM)
        assert over_grpc.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert over_rest.answer() == (503, {"error": "the server is shutting down"})
        assert running.end() == (0, "")
        assert "Traceback" not in running.log


def test_for_the_delay_after_the_first_signal_calls_are_answered_and_health_says_that_it_goes(
    gated_base: Path,
) -> None:
    open_gate = str(gated_base)
    flags = (*model_flags(gated_base), "--shutdown_delay_seconds=600")
    with program(*flags, "--enable_grpc_healthcheck_service") as running:
        ready = f"http://127.0.0.1:{running.rest_port}/healthz/ready"
        urllib.request.urlopen(ready, timeout=WAIT_SECONDS).close()
        with client_of(running.grpc_port) as client:
            health = health_pb2_grpc.HealthStub(client.channel)
            request = health_pb2.HealthCheckRequest(service="m")
            statuses = health.Watch(request, timeout=START_SECONDS)
            assert next(statuses).status == health_pb2.HealthCheckResponse.SERVING

            running.send(signal.SIGTERM)
            assert next(statuses).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(urllib.error.HTTPError, match="503") as refused:
                urllib.request.urlopen(ready, timeout=WAIT_SECONDS)
            refused.value.close()
            assert client.predict(spec(), gate=open_gate)["version"] == 1
            with client_of(running.grpc_port) as later:
                assert later.predict(spec(), gate=open_gate)["version"] == 1
            over_rest = RestCall(running.rest_port, gated_base)
            assert over_rest.answer() == (200, {"outputs": 1})
        running.send(signal.SIGTERM)
        assert running.end() == (128 + signal.SIGTERM, "")


def test_after_the_delay_the_program_ends_as_without_one(gated_base: Path) -> None:
    with program(*model_flags(gated_base), "--shutdown_delay_seconds=0.2") as running:
        assert running.rest_port
        running.send(signal.SIGTERM)
        assert running.end() == (0, "")


def test_the_second_signal_ends_at_once(gated_base: Path, tmp_path: Path) -> None:
    flags = (*model_flags(gated_base), "--shutdown_grace_seconds=600")
    with program(*flags) as running, client_of(running.grpc_port) as client:
        call = client.future("Predict", predict_request(spec(), gate=str(tmp_path / "never")))
        await_receipt(client, running)
        running.send(signal.SIGINT)
        running.await_log("SIGINT: draining and stopping")
        running.send(signal.SIGTERM)
        assert running.end() == (128 + signal.SIGTERM, "")
        assert call.exception() is not None


def test_a_signal_ends_a_load_that_never_does(tmp_path: Path) -> None:
    base = publish(gated_load, tmp_path / "m", 1, gate=tmp_path / "never").parent
    with program(*model_flags(base)) as running:
        running.await_log("Loading servable version")
        running.send(signal.SIGTERM)
        assert running.end() == (0, "")
        assert "Traceback" not in running.log


def test_a_signal_ends_the_wait_for_another_attempt_to_load(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    with program("--model_name=m", f"--model_base_path={tmp_path}") as running:
        running.await_log(r"attempt 1 of 6")
        running.send(signal.SIGTERM)
        assert running.end() == (0, "")
        assert "Traceback" not in running.log
