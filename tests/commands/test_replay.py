"""How replay sends calls: how many at once, and over TLS. What it says of them is tested with
whole servers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import prediction_logs as logs
import pytest
from certificates import Authority
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

from serving.commands import replay
from serving.core.errors import Unavailable
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from serving.transport.tls import Certificate, TlsOptions

PREDICT = "/tensorflow.serving.PredictionService/Predict"
NUM_CALLS = 6


class Doubles:
    """Answers a number with twice as much, once ``together`` calls wait: the last one first."""

    def __init__(self, together: int = 1) -> None:
        self._together = together
        self._waiting: list = []
        self._lock = threading.Lock()
        self.most = 0

    def __call__(self, request, _context, reply) -> None:
        with self._lock:
            self._waiting.append((request, reply))
            self.most = max(self.most, len(self._waiting))
            ready: list = []
            if len(self._waiting) == self._together:
                ready, self._waiting = self._waiting, []
        for waiting, answer in reversed(ready):
            x = PredictRequest.FromString(waiting).inputs["x"].float_val[0]
            response = PredictResponse()
            response.outputs["y"].CopyFrom(tensor(2 * x))
            answer(response.SerializeToString())


def tensor(value: float):
    made = logs.of_predict("", "m", y=np.float32([value])).predict_log.request.inputs["y"]
    made.float_val[:] = [value]
    made.tensor_content = b""
    return made


@contextlib.contextmanager
def serving(handler, certificate=None) -> Iterator[str]:
    options = GrpcOptions(address="127.0.0.1:0")
    server = GrpcServer(options, {PREDICT: handler}, certificate=certificate)
    server.start()
    try:
        yield f"localhost:{server.port}"
    finally:
        server.stop(0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Calls with the numbers from 0 on; 1 and 4 were answered in another way."""
    calls = []
    for x in range(NUM_CALLS):
        call = logs.of_predict("", "m", x=np.float32([x]))
        call.predict_log.request.inputs["x"].CopyFrom(tensor(x))
        call.predict_log.response.outputs["y"].CopyFrom(tensor(2 * x + (x in {1, 4})))
        calls.append(call)
    return logs.write_warm_up(tmp_path, *calls)


@pytest.mark.parametrize("concurrency", [1, 3, NUM_CALLS, 2 * NUM_CALLS])
def test_so_many_calls_are_under_way_and_answers_are_told_in_the_order_of_the_log(
    log: Path, concurrency: int, capsys
):
    handler = Doubles(min(concurrency, NUM_CALLS))
    with serving(handler) as server:
        status = replay.main(
            [f"--request_log={log}", f"--server={server}", f"--concurrency={concurrency}"]
        )
    assert status == 1
    assert capsys.readouterr().out.splitlines() == [
        "record 2 (Predict of m): output y: 1 of 1 values differ, the most at [0]: 2.0, not 3.0",
        "record 5 (Predict of m): output y: 1 of 1 values differ, the most at [0]: 8.0, not 9.0",
        "6 calls: 4 the same, 2 different, 0 failed, 0 with nothing to compare",
    ]
    assert handler.most == min(concurrency, NUM_CALLS)


def test_calls_that_a_server_refuses_have_failed_also_the_first(log: Path, capsys):
    """As a server does whose batch queue is full: it is there, and others are answered."""
    numbers = count()

    def full_at_times(request, context, reply) -> None:
        if next(numbers) in {0, 3}:
            reply(Unavailable("The batch scheduling queue is full"))
        else:
            Doubles()(request, context, reply)

    with serving(full_at_times) as server:
        assert replay.main([f"--request_log={log}", f"--server={server}"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "record 1 (Predict of m): UNAVAILABLE: The batch scheduling queue is full",
        "record 2 (Predict of m): output y: 1 of 1 values differ, the most at [0]: 2.0, not 3.0",
        "record 4 (Predict of m): UNAVAILABLE: The batch scheduling queue is full",
        "record 5 (Predict of m): output y: 1 of 1 values differ, the most at [0]: 8.0, not 9.0",
        "6 calls: 2 the same, 2 different, 2 failed, 0 with nothing to compare",
    ]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("verified", [False, True], ids=["server", "both"])
def test_calls_go_over_tls_and_may_show_a_certificate(
    log: Path, authority: Authority, verified: bool, capsys
):
    pair, client = authority.issue("server"), authority.issue("client")
    certificate = Certificate(
        TlsOptions(pair.key, pair.cert, authority.cert if verified else "", verified)
    )
    with serving(Doubles(), certificate) as server:
        arguments = [f"--request_log={log}", f"--server={server}"]
        assert replay.main(arguments) == 2  # it speaks no TLS
        arguments += [f"--ssl_ca_file={authority.cert_file}"]
        if verified:
            assert replay.main(arguments) == 2
            arguments += [
                f"--ssl_key_file={client.key_file}",
                f"--ssl_certificate_file={client.cert_file}",
            ]
        capsys.readouterr()
        assert replay.main(arguments) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("6 calls: 4 the same")


def test_a_file_that_is_not_there_is_named(log: Path, capsys):
    arguments = [f"--request_log={log}", "--server=localhost:1", "--ssl_ca_file=/no/file"]
    assert replay.main(arguments) == 2
    assert capsys.readouterr().err == "model_server replay: /no/file: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["--ssl_key_file=k"], "--ssl_key_file and --ssl_certificate_file belong together"),
        (["--ssl_certificate_file=c"], "--ssl_key_file and --ssl_certificate_file belong together"),
        (
            ["--ssl_key_file=k", "--ssl_certificate_file=c"],
            "--ssl_key_file needs --ssl_ca_file",
        ),
    ],
)
def test_half_of_what_tls_needs_is_refused(arguments: list[str], refusal: str, capsys):
    with pytest.raises(SystemExit):
        replay.main(["--request_log=l", "--server=s", *arguments])
    assert refusal in capsys.readouterr().err
