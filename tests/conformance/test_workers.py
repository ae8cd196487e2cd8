"""Several worker processes behind one port: clients can not tell, also when one dies.

Lookup tables stand in for models: their versions load in no time, from real files.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from odd_models import gated
from program import RunningProgram, program
from prometheus_client.parser import text_string_to_metric_families
from stock_clients import (
    WAIT_SECONDS,
    Client,
    await_,
    client_of,
    predict_request,
    publish,
    reload_request,
    spec,
    status_request,
)
from waiting import START_SECONDS

REQUEST_COUNT = ":tensorflow:serving:request_count_total"
AVAILABLE = ("AVAILABLE", "OK")
FLAGS = ("--num_workers=2", "--version_settle_seconds=0", "--max_num_load_retries=0")

NUM_CLIENTS = 8
"""Enough that no worker is without: the system chooses one for each connection."""


def table(directory: Path) -> None:
    """Has its number for the key ``version``; as an exporter."""
    directory.mkdir(parents=True)
    (directory / "table.csv").write_text("version,some\n")


def tables(base: Path) -> dict[str, str]:
    return {"name": base.name, "base_path": str(base), "model_platform": "hashmap"}


def models_flag(place: Path, *models: dict[str, str]) -> str:
    config = place / "models.json"
    config.write_text(json.dumps({"model_config_list": list(models)}))
    return f"--model_config_file={config}"


def workers(running: RunningProgram) -> list[int]:
    """The processes of the workers that there are."""
    pids = (int(pid) for pid in re.findall(r"worker \d is process (\d+)", running.log))
    return [pid for pid in pids if is_alive(pid)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return state_of(pid) != "Z"


def state_of(pid: int) -> str:
    """The letter that ps shows."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def halt(pid: int) -> None:
    """Stop the process; a signal that comes before it has stopped would still reach it."""
    os.kill(pid, signal.SIGSTOP)
    await_(lambda: state_of(pid) == "T")


def await_ports(running: RunningProgram, times: int) -> None:
    """Return once so many workers, in all, have opened their ports.

    There may be more: where the machine is busy, a worker that is well can seem to hang.
    """
    opened = "Exporting HTTP/REST API"
    await_(lambda: running.log.count(opened) >= times, lambda: running.log, START_SECONDS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def models(place: Path) -> list[dict[str, str]]:
    """What is served at first: a table, and a model whose runs end when a test wants it."""
    publish(table, place / "m", 1)
    publish(gated, place / "gated", 1)
    gated_model = {"name": "gated", "base_path": str(place / "gated")}
    return [tables(place / "m"), {**gated_model, "model_platform": "tensorflow"}]


@pytest.fixture(scope="module")
def running(place: Path, models: list[dict[str, str]]) -> Iterator[RunningProgram]:
    monitoring = place / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    flags = (models_flag(place, *models), f"--monitoring_config_file={monitoring}", *FLAGS)
    with program(*flags) as running:
        running.await_log("2 workers serve", START_SECONDS)
        yield running


@pytest.fixture
def clients(running: RunningProgram) -> Iterator[list[Client]]:
    """Each with a connection of its own."""
    with ExitStack() as open_clients:
        yield [open_clients.enter_context(client_of(running.grpc_port)) for _ in range(NUM_CLIENTS)]


class Load:
    """Clients that call again and again, each one call at a time, until the block is left."""

    def __init__(self, clients: list[Client], call: Callable[[Client], object]) -> None:
        self.answers: list[list[object]] = [[] for _ in clients]
        self.failures: list[list[grpc.RpcError]] = [[] for _ in clients]
        self._call = call
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(index, client))
            for index, client in enumerate(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def await_answers(self, more: int) -> None:
        """Return once every client has had so many more answers."""
        wanted = [len(answers) + more for answers in self.answers]
        await_(
            lambda: all(
                len(answers) >= count for answers, count in zip(self.answers, wanted, strict=True)
            ),
            lambda: f"more answers: {self.failures}",
        )

    def _run(self, index: int, client: Client) -> None:
        while not self._stop.wait(0.01):
            try:
                self.answers[index].append(self._call(client))
            except grpc.RpcError as error:
                self.failures[index].append(error)


@contextmanager
def connections_that_are_never_refused(port: int) -> Iterator[None]:
    """New clients come all the time."""
    stop = threading.Event()
    refused: list[OSError] = []

    def connect() -> None:
        while not stop.wait(0.01):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
            except OSError as error:
                refused.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    yield
    stop.set()
    thread.join()
    assert refused == []


def served(client: Client) -> int:
    """The version that answers a request for none in particular."""
    response = client.call("Predict", predict_request(spec(), keys=[b"version"]))
    return int(response.model_spec.version.value)


def test_all_workers_share_the_ports_that_the_system_picked(running: RunningProgram) -> None:
    for service in ("Running gRPC ModelServer at", "Exporting HTTP/REST API at:"):
        ports = re.findall(rf"{service} ?127\.0\.0\.1:(\d+)", running.log)
        assert len(ports) == 2
        assert len(set(ports)) == 1


def test_the_supervisor_is_small(running: RunningProgram) -> None:
    assert "tensorflow" not in Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "tensorflow" in Path(f"/proc/{workers(running)[0]}/maps").read_text()


def test_a_version_that_is_said_to_be_available_is_so_for_everybody(
    place: Path, clients: list[Client]
) -> None:
    """And nobody fails meanwhile: the old one stays until the new one is everywhere."""
    with Load(clients, served) as load:
        load.await_answers(20)
        for version in (2, 3, 4):
            publish(table, place / "m", version)
            await_(lambda version=version: clients[0].states().get(version) == AVAILABLE)
            for client in clients:
                client.predict(spec(version=version), keys=[b"version"])
        load.await_answers(20)
    assert load.failures == [[]] * NUM_CLIENTS
    for answers in load.answers:
        assert answers == sorted(answers)
        assert answers[-1] == 4


def test_a_reload_reaches_all_workers_before_it_is_answered(
    place: Path, models: list[dict[str, str]], clients: list[Client]
) -> None:
    publish(table, place / "n", 1)
    counted = ("/tensorflow/serving/request_count",)
    reload = reload_request(*models, tables(place / "n"), metric_names=counted)
    answer = clients[0].call("HandleReloadConfigRequest", reload)
    for client in clients:
        assert client.states("n") == {1: AVAILABLE}
        client.predict(spec("n"), keys=[b"version"])
    assert answer.metric[0].int64_value_increase == 0

    refused = [*models, {**tables(place / "n"), "model_platform": "tensorflow"}]
    code, text = clients[1].failure("HandleReloadConfigRequest", reload_request(*refused))
    assert code == "INVALID_ARGUMENT"
    assert "Illegal to change a model's platform" in text


def test_a_worker_that_is_killed_costs_the_calls_it_had_and_is_replaced(
    running: RunningProgram, clients: list[Client]
) -> None:
    """By one that serves what the last reload said, not what the command line did."""
    opened = running.log.count("Exporting HTTP/REST API")
    with connections_that_are_never_refused(running.grpc_port), Load(clients, served) as load:
        load.await_answers(10)
        killed = workers(running)[0]
        os.kill(killed, signal.SIGKILL)
        load.await_answers(10)
        await_ports(running, opened + 1)
        load.await_answers(10)
    failed = Counter(error.code().name for failures in load.failures for error in failures)
    assert set(failed) <= {"UNAVAILABLE"}
    assert max(len(failures) for failures in load.failures) <= 1
    assert f"(process {killed}) was ended by SIGKILL, as happens where memory" in running.log
    assert "; another starts in 0.5 seconds" in running.log
    for _ in range(NUM_CLIENTS):
        with client_of(running.grpc_port) as client:
            assert client.states("m")[4] == client.states("n")[1] == AVAILABLE
            client.predict(spec("m", version=4), keys=[b"version"])
            client.predict(spec("n"), keys=[b"version"])


def test_states_are_those_of_all_workers_over_rest_too(
    running: RunningProgram,
) -> None:
    for _ in range(NUM_CLIENTS):
        address = f"http://127.0.0.1:{running.rest_port}/v1/models/m"
        with urllib.request.urlopen(address, timeout=10) as response:
            (version,) = json.load(response)["model_version_status"][:1]
        assert (version["version"], version["state"]) == ("4", "AVAILABLE")


def metrics_of(running: RunningProgram, name: str) -> float:
    """The sum of a metric's cells, by whichever worker answers, with the parser's name for it."""
    address = f"http://127.0.0.1:{running.rest_port}/monitoring/prometheus/metrics"
    with urllib.request.urlopen(address, timeout=WAIT_SECONDS) as response:
        text = response.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def test_a_page_of_metrics_speaks_for_all_workers(
    running: RunningProgram, clients: list[Client]
) -> None:
    before = metrics_of(running, REQUEST_COUNT)
    for client in clients:
        served(client)
    for _ in range(NUM_CLIENTS):  # each with a connection of its own
        assert metrics_of(running, REQUEST_COUNT) == before + NUM_CLIENTS
        assert metrics_of(running, "model_server_processes") == 2


def test_what_a_worker_counted_that_is_killed_stays_on_the_page(
    running: RunningProgram, clients: list[Client]
) -> None:
    for client in clients:
        served(client)
    opened = running.log.count("Exporting HTTP/REST API")
    for number, killed in enumerate(workers(running), start=1):
        before = metrics_of(running, REQUEST_COUNT)
        os.kill(killed, signal.SIGKILL)
        await_ports(running, opened + number)
        for _ in range(NUM_CLIENTS):
            assert metrics_of(running, REQUEST_COUNT) == before


def test_the_first_signal_lets_the_calls_of_every_worker_end(
    running: RunningProgram, clients: list[Client], tmp_path: Path
) -> None:
    """The last of those that share the workers."""
    gate = tmp_path / "gate"
    request = predict_request(spec("gated"), gate=str(gate))
    calls = [client.future("Predict", request) for client in clients]
    for client in clients:
        client.call("GetModelStatus", status_request(spec()))  # what came before has arrived
    pids = workers(running)
    running.send(signal.SIGTERM)
    for pid in pids:
        running.await_log(rf"\[{pid}\] serving.process: SIGTERM: draining and stopping")
    gate.touch()
    assert [call.result().model_spec.version.value for call in calls] == [1] * NUM_CLIENTS
    assert running.end() == (0, "")
    assert "Traceback" not in running.log
    assert not any(is_alive(pid) for pid in pids)


def test_workers_end_with_a_supervisor_that_is_killed(place: Path) -> None:
    with program(models_flag(place, tables(place / "m")), *FLAGS) as running:
        running.await_log("2 workers serve", START_SECONDS)
        pids = workers(running)
        assert len(pids) == 2
        running.send(signal.SIGKILL)
        await_(lambda: not any(is_alive(pid) for pid in pids), lambda: running.log)


@pytest.mark.timeout(300)  # a server starts, and then another worker
def test_a_worker_that_hangs_is_killed_and_replaced(place: Path) -> None:
    monitoring = place / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    models = models_flag(place, tables(place / "m"))
    watched = (f"--monitoring_config_file={monitoring}", "--worker_hang_seconds=20")
    with program(models, *watched, *FLAGS) as running:
        running.await_log("2 workers serve", START_SECONDS)
        stopped = workers(running)[0]
        halt(stopped)
        killed = rf"process {stopped}\) did not answer for 20 seconds and was killed; "
        running.await_log(killed, START_SECONDS)
        assert not is_alive(stopped)
        await_ports(running, 3)
        assert metrics_of(running, "model_server_worker_replacements_total") >= 1
        assert running.log.count(f"process {stopped}) did not answer") == 1


def test_a_second_signal_ends_workers_that_do_not_listen(place: Path) -> None:
    with program(models_flag(place, tables(place / "m")), *FLAGS) as running:
        await_(lambda: len(workers(running)) == 2)
        pids = workers(running)
        for pid in pids:
            halt(pid)
        running.send(signal.SIGTERM)
        running.await_log("SIGTERM: draining and stopping")
        assert running.process.poll() is None
        running.send(signal.SIGTERM)
        assert running.end() == (128 + signal.SIGTERM, "")
        await_(lambda: not any(is_alive(pid) for pid in pids))


def test_a_start_that_fails_in_a_worker_fails_as_that_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    with program(models_flag(tmp_path, tables(tmp_path / "m")), *FLAGS) as running:
        status, text = running.end()
        assert status == 255
        assert text.startswith("Failed to start server. Error: UNKNOWN: 1 servable(s) did not")
        assert text.count("\n") == 1
        assert "Traceback" not in running.log
