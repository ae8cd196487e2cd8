"""The REST gateway: what models answer, and every refusal."""

from __future__ import annotations

import asyncio
import json

import pytest
from rest_models import (
    REQUEST,
    Elsewhere,
    Failing,
    FakeModels,
    ask,
    error_body,
)

from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.core.errors import (
    Code,
    Unimplemented,
    error_for,
)
from serving.core.models import ModelSpec
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import request_count
from serving.testing import FakeClock, InlineExecutor


@pytest.mark.parametrize(
    ("target", "body", "answer"),
    [
        (
            "/v1/models/m:predict",
            '{"instances": [1.0, 2.0, 5.0]}',
            '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}',
        ),
        (
            "/v1/models/m/versions/123:predict",
            '{"instances": [{"x": 1}]}',
            '{\n    "predictions": [2.5\n    ]\n}',
        ),
        (
            "/v1/models/m/labels/stable:predict",
            '{"inputs": [1, NaN]}',
            '{\n    "outputs": [\n        2.5,\n        NaN\n    ]\n}',
        ),
        ("/v1/models/m:predict", '{"inputs": {"x": 1}}', '{\n    "outputs": 2.5\n}'),
        (
            "/v1/models/m:predict",
            '{"signature_name": "", "unknown": 1, "instances": [1]} and more',
            '{\n    "predictions": [2.5\n    ]\n}',
        ),
        (
            "/v1/models/m:predict",
            '{"signature_name": "both", "instances": [{"x": 1, "s": {"b64": "aGk="}}]}',
            '{\n    "predictions": [\n        {\n            "s_bytes": {\n'
            '                "b64": "aGk="\n            },\n            "y": 2.5\n'
            "        }\n    ]\n}",
        ),
        (
            "/v1/models/m:classify",
            '{"signature_name": "classify", "examples": [{}, {}]}',
            '{\n    "results": [[["size", 2.0]], [["size", 2.0]]\n    ]\n}',
        ),
        (
            "/v1/models/m:regress",
            '{"signature_name": "regress", "examples": [{}, {"x": 1}]}',
            '{\n    "results": [2.0, 14.0]\n}',
        ),
    ],
)
def test_what_a_model_computes_is_answered(api, target, body, answer):
    response = ask(api, "POST", target, body)
    assert (response.status, response.body) == (200, answer)
    assert response.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in response.headers


BOTH = '{\n    "instances": [\n        1\n    ],\n    "inputs": 1\n}'


@pytest.mark.parametrize(
    ("target", "body", "status", "message"),
    [
        ("/v1/models/foo", "", 400, "Malformed request: POST /v1/models/foo"),
        (
            "/v1/models/m:predict?x=1",
            "",
            400,
            "Malformed request: POST /v1/models/m:predict?x=1",
        ),
        ("/v1/models/m:PREDICT", "", 400, "Malformed request: POST /v1/models/m:PREDICT"),
        (
            "/v1/models/n:predict",
            "{}",
            404,
            "Servable not found for request: Latest(n)",
        ),
        (
            "/v1/models/m/versions/7:predict",
            "{}",
            404,
            "Servable not found for request: Specific(m, 7)",
        ),
        (
            "/v1/models/m/labels/l:predict",
            "{}",
            400,
            "Unrecognized servable version label: l",
        ),
        ("/v1/models/n:predict", "", 400, "JSON Parse error: The document is empty"),
        ("/v1/models/n:predict", "x", 400, "JSON Parse error: Invalid value. at offset: 0"),
        ("/v1/models/m:predict", "[1]", 400, "JSON Value: [\n    1\n] Is not object"),
        (
            "/v1/models/m:predict",
            '{"signature_name": "S"}',
            400,
            'Serving signature name: "S" not found in signature def',
        ),
        (
            "/v1/models/m:predict",
            '{"signature_name": 1}',
            400,
            'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            "/v1/models/m:predict",
            '{"signature_name": "nothing", "instances": [1]}',
            400,
            "Failed to get input map for signature: nothing",
        ),
        ("/v1/models/m:predict", "{}", 400, "Missing 'inputs' or 'instances' key"),
        (
            "/v1/models/m:predict",
            '{"instances": [1], "inputs": 1}',
            400,
            f"JSON Value: {BOTH} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist ",
        ),
        (
            "/v1/models/m:predict",
            '{"instances": 1}',
            400,
            "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array",
        ),
        (
            "/v1/models/m:predict",
            '{"instances": []}',
            400,
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        (
            "/v1/models/m:predict",
            '{"inputs": ["x"]}',
            400,
            'JSON Value: "x" Type: String is not of expected type: float',
        ),
        (
            "/v1/models/m:predict",
            '{"signature_name": "half", "inputs": 0}',
            501,
            "Conversion of JSON Value: 0 to type: half",
        ),
        (
            "/v1/models/m:predict",
            '{"signature_name": "to_half", "inputs": 0}',
            400,
            "Failed to write JSON value for tensor type: half",
        ),
        (
            "/v1/models/m:predict",
            '{"signature_name": "sum", "instances": [0]}',
            400,
            "Tensor name: sum has no shape information ",
        ),
        (
            "/v1/models/m:classify",
            '{"signature_name": "classify"}',
            400,
            'JSON Value: {\n    "signature_name": "classify"\n} When method is classify, key '
            "'examples' is expected and was not found",
        ),
        (
            "/v1/models/m:classify",
            '{"examples": [{}]}',
            400,
            "No classification inputs found in SignatureDef: ",
        ),
        (
            "/v1/models/m:regress",
            '{"signature_name": "S", "examples": [{}]}',
            400,
            "No signature was found with the name: S",
        ),
    ],
)
def test_a_bad_post_is_refused_with_its_text(api, target, body, status, message):
    response = ask(api, "POST", target, body)
    assert response.headers["content-type"] == "application/json"
    if message.endswith("SignatureDef: "):
        assert (response.status, json.loads(response.body)["error"].startswith(message)) == (
            status,
            True,
        )
    else:
        assert (response.status, response.body) == (status, error_body(message))


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_malformed(api, method):
    response = ask(api, method, "/v1/models/m:predict")
    message = f"Malformed request: {method} /v1/models/m:predict"
    assert (response.status, response.body) == (400, error_body(message))


@pytest.mark.parametrize(("method", "suffix"), [("POST", ":predict"), ("GET", "")])
def test_a_version_that_is_no_int64_is_refused_without_a_text(api, method, suffix):
    response = ask(api, method, f"/v1/models/m/versions/{2**63}{suffix}")
    assert (response.status, response.body) == (400, "")


def test_targets_outside_the_api_get_a_page(api):
    response = ask(api, "GET", "/v2/models/m")
    assert response.status == 404
    assert response.headers["content-type"].startswith("text/html")
    assert "<H1>Not Found</H1>" in response.body


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_each_canonical_code_has_its_http_status(models, code):
    models.servables["m"] = Failing(error_for(code, "no"))
    response = ask(
        RestApi(models, executor=InlineExecutor()), "POST", "/v1/models/m:predict", REQUEST
    )
    assert (response.status, response.body) == (code.http_status, error_body("no"))


def test_a_defect_is_logged_and_answered_without_its_text(models, caplog):
    models.servables["m"] = Failing(ZeroDivisionError("/secret/path"))
    response = ask(
        RestApi(models, executor=InlineExecutor()), "POST", "/v1/models/m:predict", REQUEST
    )
    assert (response.status, response.body) == (500, error_body("internal error"))
    assert "/secret/path" in caplog.text


def test_method_names_are_checked_only_on_demand(models):
    body = '{"signature_name": "odd_method", "instances": [1]}'
    for check, status in ((False, 200), (True, 500)):
        api = RestApi(
            models, executor=InlineExecutor(), options=RestOptions(check_method_name=check)
        )
        assert ask(api, "POST", "/v1/models/m:predict", body).status == status


def test_one_lease_serves_the_look_up_and_the_run(api, models):
    ask(api, "POST", "/v1/models/m:predict", REQUEST)
    assert models.leases == [ModelSpec("m")]


@pytest.mark.parametrize(("timeout", "deadline"), [(30, 1030.0), (None, None), (0, None)])
def test_the_timeout_is_the_deadline_of_the_run(timeout, deadline):
    servable = Elsewhere()
    api = RestApi(
        FakeModels(m=servable),
        executor=InlineExecutor(),
        options=RestOptions(timeout_seconds=timeout),
        clock=FakeClock(1000.0),
    )
    ask(api, "POST", "/v1/models/m:predict", REQUEST)
    assert servable.options.deadline == deadline


def test_requests_are_counted_by_model_and_status(models):
    metrics = Metrics()
    api = RestApi(models, executor=InlineExecutor(), metrics=metrics)
    ask(api, "POST", "/v1/models/m:predict", REQUEST)
    ask(api, "GET", "/v1/models/n")
    ask(api, "PUT", "/v1/models/m")
    ask(api, "OPTIONS", "/v1/models/m", headers={"Origin": "http://x"})
    assert request_count(metrics).cells() == {
        ("", "INVALID_ARGUMENT"): 1,
        ("", "OK"): 1,
        ("m", "OK"): 1,
        ("n", "NOT_FOUND"): 1,
    }


def test_a_request_whose_body_is_refused_counts(models):
    metrics = Metrics()
    options = RestOptions(max_body_bytes=1)
    api = RestApi(models, executor=InlineExecutor(), options=options, metrics=metrics)
    assert ask(api, "POST", "/v1/models/m:predict", REQUEST).status == 413
    ((labels, count),) = request_count(metrics).cells().items()
    assert (labels[0], count) == ("m", 1)
    assert labels[1] != "OK"


def test_other_protocols_are_refused(api):
    with pytest.raises(Unimplemented):
        asyncio.run(api({"type": "websocket"}, None, None))
