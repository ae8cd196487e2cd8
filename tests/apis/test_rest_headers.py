"""What headers ask of the REST gateway: other origins and compressed bodies."""

from __future__ import annotations

import gzip
import json

import pytest
from rest_models import REQUEST, ask, error_body

from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.testing import InlineExecutor


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://example.com"}, 200),
        ({"Origin": "https://example.com"}, 200),
        ({"Origin": "null"}, 400),
        ({}, 400),
    ],
)
def test_a_preflight_is_answered_by_its_origin(api, headers, status):
    response = ask(api, "OPTIONS", "/v1/models/m:predict", headers=headers)
    assert (response.status, response.body) == (status, "")


def test_with_cors_every_response_says_so(models):
    api = RestApi(models, executor=InlineExecutor(), options=RestOptions(cors=True))
    exchanges = [("OPTIONS", "/v1/x"), ("GET", "/v1/models/m"), ("POST", "/v1/x")]
    for response in [ask(api, method, target) for method, target in exchanges]:
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["access-control-allow-methods"] == "POST, GET"
        assert response.headers["access-control-allow-headers"] == "Content-Type"
    assert "access-control-allow-origin" not in ask(api, "GET", "/").headers


@pytest.mark.parametrize("encoding", ["gzip", "deflate, gzip", "GZIP"])
def test_a_gzip_body_is_inflated(api, encoding):
    headers = {"Content-Encoding": encoding}
    response = ask(api, "POST", "/v1/models/m:predict", gzip.compress(REQUEST), headers)
    assert json.loads(response.body) == {"predictions": [2.5, 3.0, 4.5]}


@pytest.mark.parametrize(
    "members",
    [
        (REQUEST[:9], REQUEST[9:]),
        (b"", REQUEST, b""),
        (b" " * (2**20 - len(REQUEST)), REQUEST),
    ],
    ids=["two", "empty ones", "as large as may be together"],
)
def test_a_gzip_body_may_have_several_members(models, members):
    api = RestApi(models, executor=InlineExecutor(), options=RestOptions(max_body_bytes=2**20))
    body = b"".join(gzip.compress(member, 1) for member in members)
    headers = {"Content-Encoding": "gzip"}
    response = ask(api, "POST", "/v1/models/m:predict", body, headers)
    assert json.loads(response.body) == {"predictions": [2.5, 3.0, 4.5]}


@pytest.mark.parametrize(
    "body",
    [
        REQUEST,
        gzip.compress(REQUEST)[:-9],
        gzip.compress(REQUEST) + gzip.compress(b" ")[:-9],
        gzip.compress(REQUEST) + b"{}",
        b"",
    ],
    ids=[
        "not gzip",
        "cut short",
        "cut short in the second member",
        "followed by something else",
        "empty",
    ],
)
def test_a_gzip_body_that_cannot_be_inflated_reads_as_empty(api, body):
    response = ask(api, "POST", "/v1/models/m:predict", body, {"Content-Encoding": "gzip"})
    message = "JSON Parse error: The document is empty"
    assert (response.status, response.body) == (400, error_body(message))
