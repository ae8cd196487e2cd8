"""The REST gateway over real connections."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rest_models import REQUEST, SIGNATURES, Elsewhere, Failing, FakeModels, compute
from waiting import WAIT_SECONDS

from serving.apis.tensorflow_serving.rest.rest_api import RestApi
from serving.core.errors import (
    DeadlineExceeded,
)
from serving.testing import FakeServable
from serving.transport.http_options import HttpOptions
from serving.transport.http_server import HttpServer


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A server on 127.0.0.1 with a pool of threads; model ``slow`` misses its deadline."""
    models = FakeModels(
        m=FakeServable(compute, SIGNATURES),
        batched=Elsewhere(),
        slow=Failing(DeadlineExceeded("Run() timeout exceeded")),
    )
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(2))
        server = HttpServer(HttpOptions("127.0.0.1", 0), RestApi(models, executor=executor))
        server.start()
        stack.callback(server.stop, WAIT_SECONDS)
        assert server.port is not None
        yield "127.0.0.1", server.port


@pytest.fixture
def connection(address) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(
        http.client.HTTPConnection(*address, timeout=WAIT_SECONDS)
    ) as connection:
        yield connection


def test_a_connection_serves_request_after_request(connection):
    for model, body in [("m", REQUEST), ("batched", REQUEST), ("m", b"x"), ("m", REQUEST)]:
        connection.request("POST", f"/v1/models/{model}:predict", body)
        response = connection.getresponse()
        expected = {"predictions": [2.5, 3.0, 4.5]}
        if body == b"x":
            expected = {"error": "JSON Parse error: Invalid value. at offset: 0"}
        assert json.loads(response.read()) == expected
        assert response.getheader("content-type") == "application/json"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1/models/m", 200),
        ("GET", "/v1/models/m/metadata", 200),
        ("HEAD", "/v1/models/m", 400),
        ("POST", "/v1/models/%6D:predict", 200),
        ("POST", "/v1/models/m:predict?x", 400),
        ("POST", "/v1/models/slow:predict", 504),
        ("GET", "/favicon.ico", 404),
    ],
)
def test_over_a_socket(connection, method, target, status):
    connection.request(method, target, REQUEST if method == "POST" else None)
    assert connection.getresponse().status == status


def test_a_large_chunked_body_over_a_socket(connection):
    values = np.random.default_rng(1).random(20_000).astype(np.float32)
    body = json.dumps({"instances": values.tolist()}).encode()
    chunks = [body[start : start + 50_000] for start in range(0, len(body), 50_000)]
    connection.request(
        "POST",
        "/v1/models/m:predict",
        iter(chunks),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    answer = json.loads(connection.getresponse().read())["predictions"]
    np.testing.assert_array_equal(np.array(answer, np.float32), values / 2 + 2)
