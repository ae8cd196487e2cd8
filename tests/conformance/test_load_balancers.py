"""Load balancers before three servers of which one ends, is killed, and comes back, under load.

For a machine with the programs `envoy`, `nginx` and `haproxy`:
`scripts/test --slow tests/conformance/test_load_balancers.py -rP`, which also shows how many calls
failed. MODEL_SERVER_TEST_ENVOY, …_NGINX and …_HAPROXY name programs that are not on the PATH.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPException
from pathlib import Path

import grpc
import pytest
from exported_models import version_number
from load_balancers import LOAD_BALANCERS, NGINX, LoadBalancer, Ports
from program import RunningProgram
from stock_clients import Client, await_, client_of, predict_request, publish, reload_request, spec
from waiting import START_SECONDS, WAIT_SECONDS

NUM_CONNECTIONS = 8
NUM_REST_CLIENTS = 2
REQUEST = predict_request(spec(), x=[0.0])

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Server:
    """One of several servers; its model's version is its number, so answers tell who gave them."""

    def __init__(self, number: int, place: Path) -> None:
        self.number = number
        self._base = publish(version_number, place / f"of_server_{number}", number).parent
        self.start(Ports(0, 0))

    def start(self, ports: Ports) -> None:
        self._program = RunningProgram(
            f"--grpc_bind_address=127.0.0.1:{ports.grpc}",
            f"--rest_bind_address=127.0.0.1:{ports.rest}",
            "--model_name=m",
            f"--model_base_path={self._base}",
            "--enable_grpc_healthcheck_service",
            "--shutdown_delay_seconds=10",
        )

    @property
    def ports(self) -> Ports:
        """Waits until the server listens."""
        self._program.await_log("Exporting HTTP/REST API at", 3 * START_SECONDS)  # three start
        return Ports(self._program.grpc_port, self._program.rest_port)

    def end(self, number: signal.Signals) -> None:
        """Returns when it has ended of the signal."""
        self._program.send(number)
        status, _ = self._program.end()
        assert status == (0 if number == signal.SIGTERM else -number)

    def come_back(self) -> None:
        """Another process at the same place; returns when that listens."""
        ports = self.ports
        self._program.close()
        self.start(ports)
        assert self.ports == ports

    def close(self) -> None:
        self._program.close()


class Calls:
    """What came of calls of one kind: how many each server answered, and how the others failed."""

    def __init__(self, call: Callable[[], int]) -> None:
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []
        self._call = call

    def make(self, enough: threading.Event) -> None:
        """One after the other."""
        while not enough.is_set():
            self.make_one()

    def make_one(self) -> bool:
        """Whether it was answered."""
        try:
            self.answers[self._call()] += 1
        except (grpc.RpcError, OSError, HTTPException) as error:
            self.failures.append(str(error))
            return False
        return True


class Load:
    """Calls over both protocols through a balancer, each client one after the other."""

    def __init__(self, ports: Ports, clients: ExitStack) -> None:
        self._calls = [
            Calls(_over_grpc(clients.enter_context(client_of(ports.grpc))))
            for _ in range(NUM_CONNECTIONS)
        ]
        self._calls += [Calls(_over_rest(ports.rest)) for _ in range(NUM_REST_CLIENTS)]

    @contextmanager
    def running(self) -> Iterator[None]:
        enough = threading.Event()
        threads = [threading.Thread(target=each.make, args=(enough,)) for each in self._calls]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            enough.set()
            for thread in threads:
                thread.join()

    @property
    def failures(self) -> list[str]:
        return [failure for each in self._calls for failure in each.failures]

    @property
    def num_answers(self) -> int:
        return sum(each.answers.total() for each in self._calls)

    def await_answers(self, *servers: int, each: int = 20) -> None:
        """Until these servers have answered so many calls more over each protocol."""
        grpc_calls, rest_calls = self._calls[:NUM_CONNECTIONS], self._calls[NUM_CONNECTIONS:]
        for calls in (grpc_calls, rest_calls):
            before = _answers(calls)
            await_(
                lambda calls=calls, before=before: all(
                    _answers(calls)[server] >= before[server] + each for server in servers
                ),
                lambda calls=calls: (
                    f"answers of {servers}, not {_answers(calls)}, {self.failures[:3]}"
                ),
                START_SECONDS,
            )

    def await_silence(self, server: int) -> None:
        """Until this server answers no more, while the others do."""
        others = {1, 2, 3} - {server}

        def is_silent() -> bool:
            before = _answers(self._calls)[server]
            self.await_answers(*others)
            return _answers(self._calls)[server] == before

        await_(is_silent)


def _answers(calls: list[Calls]) -> Counter[int]:
    return sum((Counter(dict(each.answers)) for each in calls), Counter())


def _over_grpc(client: Client) -> Callable[[], int]:
    return lambda: client.call("Predict", REQUEST).model_spec.version.value


def _over_rest(port: int) -> Callable[[], int]:
    url = f"http://127.0.0.1:{port}/v1/models/m:predict"
    body = json.dumps({"instances": [0.0]}).encode()

    def call() -> int:
        with urllib.request.urlopen(url, body, timeout=WAIT_SECONDS) as answer:
            return json.load(answer)["predictions"][0]

    return call


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return taken.getsockname()[1]


class RunningBalancer:
    """The program before the servers, on ports of its own."""

    def __init__(self, balancer: LoadBalancer, servers: list[Server], place: Path) -> None:
        self._ports_of = {server.number: server.ports for server in servers}
        self._balancer, self._place = balancer, place
        self.ports = Ports(free_port(), free_port())
        self._file = balancer.adapted(self.ports, list(self._ports_of.values()), place)
        self._output = (place / "output").open("wb")
        command = balancer.command(balancer.run, self._file)
        self._process = subprocess.Popen(command, stdout=self._output, stderr=self._output)

    def await_answers(self) -> None:
        """Until it passes on calls of both kinds."""
        with client_of(self.ports.grpc) as client:
            calls = [Calls(_over_grpc(client)), Calls(_over_rest(self.ports.rest))]
            for each in calls:
                await_(lambda each=each: each.make_one(), self._said, START_SECONDS)

    def take_out(self, server: Server, load: Load) -> None:
        """What is to be done before a server is told to end: nothing, but with nginx."""
        if self._balancer is not NGINX:
            return
        text = self._file.read_text()
        for port in self._ports_of[server.number]:
            text = text.replace(f"server 127.0.0.1:{port} ", f"server 127.0.0.1:{port} down ")
        self._file.write_text(text)
        self._process.send_signal(signal.SIGHUP)
        load.await_silence(server.number)

    def put_back(self) -> None:
        if self._balancer is not NGINX:
            return
        self._file.write_text(self._file.read_text().replace(" down ", " "))
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(WAIT_SECONDS)
        finally:
            self._process.kill()
            self._output.close()

    def _said(self) -> str:
        return (self._place / "output").read_text()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Three, each a process of its own; whoever ends one has it come back."""
    place = tmp_path_factory.mktemp("servers")
    with ExitStack() as running:
        started = []
        for number in (1, 2, 3):
            server = Server(number, place)
            running.callback(server.close)
            started.append(server)
        for server in started:
            assert server.ports
        yield started


@pytest.fixture(params=LOAD_BALANCERS, ids=lambda each: each.name)
def balancer(
    request: pytest.FixtureRequest, servers: list[Server], tmp_path: Path
) -> Iterator[RunningBalancer]:
    kind: LoadBalancer = request.param
    if kind.program is None:
        pytest.skip(f"no {kind.name}, neither on the PATH nor named by {kind.variable}")
    running = RunningBalancer(kind, servers, tmp_path)
    with closing(running):
        running.await_answers()
        yield running


@pytest.fixture
def load(balancer: RunningBalancer) -> Iterator[Load]:
    """Under way when the test begins, and until it ends."""
    with ExitStack() as clients:
        made = Load(balancer.ports, clients)
        with made.running():
            made.await_answers(1, 2, 3)
            yield made


def test_large_requests_and_answers_pass(balancer: RunningBalancer) -> None:
    """Larger than what is kept to be sent again."""
    values = [0.0] * 2_000_000
    with client_of(balancer.ports.grpc) as client:
        answer = client.predict(spec(), x=values)
    assert len(answer["version"]) == len(values)
    url = f"http://127.0.0.1:{balancer.ports.rest}/v1/models/m:predict"
    body = json.dumps({"instances": values}).encode()
    with urllib.request.urlopen(url, body, timeout=WAIT_SECONDS) as answered:
        assert len(json.load(answered)["predictions"]) == len(values)


def test_no_reload_reaches_a_server(balancer: RunningBalancer) -> None:
    with client_of(balancer.ports.grpc) as client:
        code, _ = client.failure("HandleReloadConfigRequest", reload_request())
        assert code == "PERMISSION_DENIED"


def test_no_call_fails_when_a_server_ends_and_when_it_comes_back(
    balancer: RunningBalancer, servers: list[Server], load: Load
) -> None:
    balancer.take_out(servers[0], load)
    servers[0].end(signal.SIGTERM)
    load.await_answers(2, 3)
    servers[0].come_back()
    balancer.put_back()
    load.await_answers(1, 2, 3)
    assert load.failures == []
    sys.stdout.write(f"SIGTERM: 0 of {load.num_answers} calls failed\n")


def test_a_server_that_is_killed_costs_the_calls_it_had_and_none_later(
    balancer: RunningBalancer, servers: list[Server], load: Load
) -> None:
    servers[1].end(signal.SIGKILL)
    load.await_answers(1, 3)
    lost = load.failures
    num_calls = load.num_answers + len(lost)
    sys.stdout.write("\n".join([f"SIGKILL: {len(lost)} of {num_calls} calls failed", *lost, ""]))
    assert len(lost) <= NUM_CONNECTIONS + NUM_REST_CLIENTS
    load.await_answers(1, 3, each=100)
    servers[1].come_back()
    load.await_answers(1, 2, 3)
    assert load.failures == lost
