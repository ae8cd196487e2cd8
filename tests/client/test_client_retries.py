"""Calls are tried again where that can help, within their deadlines."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import pytest
from blocking import Blocking
from model_server_client import AsyncClient, Client, Code, Retries, ServerError
from model_server_client.async_rest_client import AsyncRestClient
from model_server_client.generated.tensorflow_serving_pb2 import PredictResponse
from model_server_client.rest_client import RestClient
from model_server_client.tensors import tensor_proto
from waiting import WAIT_SECONDS

QUICK = Retries(first_wait=0.01)
X = {"x": np.ones(1, np.float32)}
METADATA = (
    b'{"metadata": {"signature_def": {"signature_def": {"serving_default":'
    b' {"outputs": {"y": {"dtype": "DT_FLOAT"}}}}}}}'
)


class FailingServer:
    """Answers with the codes of ``failures`` first, then with a result; counts predictions."""

    def __init__(self, *failures: Code) -> None:
        self.failures = deque(failures)
        self.predictions = 0
        self.metadata: list[dict[str, str | bytes]] = []


@contextmanager
def grpc_server(failing: FailingServer) -> Iterator[str]:
    answer = PredictResponse()
    answer.outputs["y"].CopyFrom(tensor_proto("y", X["x"]))

    def predict(request: bytes, context: grpc.ServicerContext) -> bytes:
        failing.predictions += 1
        failing.metadata.append(dict(context.invocation_metadata()))
        if failing.failures:
            code = failing.failures.popleft()
            context.abort(getattr(grpc.StatusCode, code.name), f"told {code.name}")
        return answer.SerializeToString()

    handler = grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService",
        {"Predict": grpc.unary_unary_rpc_method_handler(predict)},
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def http_server(failing: FailingServer, **headers: str) -> Iterator[str]:
    statuses = {Code.UNAVAILABLE: 503, Code.INVALID_ARGUMENT: 400, Code.RESOURCE_EXHAUSTED: 429}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, METADATA)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            failing.predictions += 1
            if failing.failures:
                code = failing.failures.popleft()
                self.answer(statuses[code], b'{"error": "told %s"}' % code.name.encode())
            else:
                self.answer(200, b'{"outputs": [1]}')

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def answering_server(body: bytes, pause: Callable[[], object] = bool) -> Iterator[str]:
    """Answers every GET with ``body``, byte by byte, after a ``pause`` each."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # the client has gone
                for byte in body:
                    pause()
                    self.wfile.write(bytes([byte]))

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def dripping_server() -> Iterator[str]:
    """A byte comes now and then, sooner than any wait for one ends, until the block does."""
    over = threading.Event()
    with answering_server(b" " * 10_000, lambda: over.wait(0.05)) as url:
        try:
            yield url
        finally:
            over.set()


MAKERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "grpc": (grpc_server, Client),
    "grpc-async": (grpc_server, lambda *a, **k: Blocking(lambda: AsyncClient(*a, **k))),
    "rest": (http_server, RestClient),
    "rest-async": (http_server, lambda *a, **k: Blocking(lambda: AsyncRestClient(*a, **k))),
}
every_client = pytest.mark.parametrize("kind", MAKERS)


@contextmanager
def client_of(kind: str, failing: FailingServer, **options: Any) -> Iterator[Any]:
    serve, make = MAKERS[kind]
    options = {"retries": QUICK, "timeout": WAIT_SECONDS, **options}
    with serve(failing) as address, make(address, **options) as client:
        yield client


@every_client
def test_a_server_that_is_unavailable_is_asked_again(kind: str) -> None:
    failing = FailingServer(Code.UNAVAILABLE, Code.UNAVAILABLE)
    with client_of(kind, failing) as client:
        assert client.predict("m", X)["y"].tolist() == [1]
    assert failing.predictions == 3


@every_client
def test_large_predictions_are_tried_again_too(kind: str) -> None:
    failing = FailingServer(Code.UNAVAILABLE)
    with client_of(kind, failing) as client:
        client.predict("m", {"x": np.ones(1 << 18, np.float32)})
    assert failing.predictions == 2


@pytest.mark.parametrize("kind", ["rest", "rest-async"])
def test_an_answer_that_drips_ends_at_the_deadline(kind: str) -> None:
    with dripping_server() as url, MAKERS[kind][1](url) as client:
        with pytest.raises(ServerError) as caught:
            client.status("m", timeout=0.5)
        assert caught.value.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("kind", ["rest", "rest-async"])
@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"model_version_status": 1}'])
def test_what_is_no_answer_is_an_internal_error(kind: str, body: bytes) -> None:
    with answering_server(body) as url, MAKERS[kind][1](url) as client:
        for ask in (client.signatures, client.status) if body != b"{}" else (client.signatures,):
            with pytest.raises(ServerError) as caught:
                ask("m")
            assert caught.value.code is Code.INTERNAL


@every_client
def test_there_are_no_more_attempts_than_said(kind: str) -> None:
    failing = FailingServer(*[Code.UNAVAILABLE] * 9)
    with (
        client_of(kind, failing, retries=Retries(attempts=2, first_wait=0.01)) as client,
        pytest.raises(ServerError, match="told UNAVAILABLE") as caught,
    ):
        client.predict("m", X)
    assert caught.value.code is Code.UNAVAILABLE
    assert failing.predictions == 2


@every_client
def test_one_attempt_is_no_retry(kind: str) -> None:
    failing = FailingServer(Code.UNAVAILABLE)
    with (
        client_of(kind, failing, retries=Retries(attempts=1)) as client,
        pytest.raises(ServerError),
    ):
        client.predict("m", X)
    assert failing.predictions == 1


@every_client
def test_a_mistake_of_the_client_is_not_repeated(kind: str) -> None:
    failing = FailingServer(Code.INVALID_ARGUMENT)
    with (
        client_of(kind, failing) as client,
        pytest.raises(ServerError, match="told INVALID_ARGUMENT") as caught,
    ):
        client.predict("m", X)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert failing.predictions == 1


@every_client
def test_which_failures_are_tried_again_can_be_chosen(kind: str) -> None:
    failing = FailingServer(Code.RESOURCE_EXHAUSTED)
    retries = Retries(first_wait=0.01, codes=frozenset({Code.RESOURCE_EXHAUSTED}))
    with client_of(kind, failing, retries=retries) as client:
        assert client.predict("m", X)["y"].tolist() == [1]


@pytest.mark.parametrize("make", [MAKERS["rest"][1], MAKERS["rest-async"][1]])
def test_a_wait_that_the_server_asks_for_past_the_deadline_is_not_begun(
    make: Callable[..., Any],
) -> None:
    failing = FailingServer(Code.UNAVAILABLE)
    with (
        http_server(failing, retry_after="3600") as url,
        make(url, retries=QUICK, timeout=WAIT_SECONDS) as client,
        pytest.raises(ServerError, match="told UNAVAILABLE"),
    ):
        client.predict("m", X)
    assert failing.predictions == 1


@pytest.mark.parametrize("kind", ["grpc", "grpc-async"])
def test_metadata_goes_with_every_call_and_a_call_may_have_its_own(kind: str) -> None:
    failing = FailingServer()
    with client_of(kind, failing, metadata={"Authorization": "a", "x-priority": "1"}) as client:
        client.predict("m", X, metadata={"X-Priority": "2"})
    (sent,) = failing.metadata
    assert (sent["authorization"], sent["x-priority"]) == ("a", "2")


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"attempts": 6}, {"first_wait": 0.001}, {"multiplier": 0.5}]
)
def test_retries_that_grpc_cannot_make_are_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong)))):
        Retries(**wrong)


def test_waits_grow_up_to_the_longest() -> None:
    waits = [list(Retries(5, 0.1, 10, 0.5).waits()) for _ in range(200)]
    assert all(len(each) == 4 and max(each) <= 0.6 and each[0] <= 0.12 for each in waits)
    assert min(each[1] for each in waits) >= 0.4
