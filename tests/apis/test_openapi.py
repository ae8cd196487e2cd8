"""The description of the REST API: what it says of models, and that the API keeps to it."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import closing

import numpy as np
import pytest
import schemathesis
from fake_models import FakeModels
from hypothesis import HealthCheck, Phase, given, settings
from rest_exchange import ask
from schemathesis import checks

from serving.apis.tensorflow_serving.rest.rest_api import RestApi
from serving.core.dtypes import DType
from serving.core.errors import Internal
from serving.core.servable import DEFAULT_SIGNATURE, Signature, TensorInfo
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.testing import FakeServable, InlineExecutor
from serving.transport.http_options import HttpOptions
from serving.transport.http_server import HttpServer


def info(name, dtype, *shape):
    return TensorInfo(f"{name}:0", dtype, shape)


SIGNATURES = {
    DEFAULT_SIGNATURE: Signature(
        {"x": info("x", DType.FLOAT, None, 2)}, {"y": info("y", DType.FLOAT, None, 2)}
    ),
    "pair": Signature(
        {"s": info("s", DType.STRING, None), "n": info("n", DType.INT32, None)},
        # Bytes, as what is sent in base64 need not be text.
        {"s_bytes": info("s", DType.STRING, None), "n": info("n", DType.INT32, None)},
    ),
    "examples": Signature(
        {"inputs": info("e", DType.STRING, None)}, {"scores": info("scores", DType.FLOAT, None, 1)}
    ),
    "regression": Signature(
        {"inputs": info("e", DType.STRING, None)}, {"outputs": info("scores", DType.FLOAT, None, 1)}
    ),
    "half": Signature({"h": info("h", DType.HALF, None)}, {"h": info("h", DType.HALF, None)}),
}


def compute(feeds):
    """Never infinite, as what is sent may be: JSON as described has no word for that."""
    size = len(feeds.get("e:0", ()))
    return {
        **feeds,
        "y:0": np.zeros_like(feeds.get("x:0", ())),
        "scores:0": np.zeros((size, 1), np.float32),
    }


@pytest.fixture(scope="module")
def models():
    models = FakeModels(FakeServable(compute, SIGNATURES))
    models.states["m"] = [
        ServableState(ServableId("m", 4), ManagerState.END, Internal("broken")),
        ServableState(ServableId("m", 3), ManagerState.AVAILABLE),
        ServableState(ServableId("m", 2), ManagerState.LOADING),
    ]
    return models


@pytest.fixture(scope="module")
def api(models):
    return RestApi(models, executor=InlineExecutor())


def document_of(api):
    response = ask(api, "GET", "/openapi.json")
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    return json.loads(response.body)


def test_every_call_of_what_is_loaded_has_its_path(api):
    """And nothing else has: a version that is not there cannot be described."""
    paths = document_of(api)["paths"]
    calls = (":predict", ":classify", ":regress", "/metadata")
    assert paths.keys() == {
        "/v1/models",
        "/v1/models/m",
        *(f"/v1/models/m{call}" for call in calls),
        *(f"/v1/models/m/versions/3{call}" for call in calls),
    }


@pytest.mark.parametrize(("verb", "name"), [("classify", "examples"), ("regress", "regression")])
def test_examples_are_described_for_signatures_that_give_what_the_verb_is_for(api, verb, name):
    operation = document_of(api)["paths"][f"/v1/models/m:{verb}"]["post"]
    forms = operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert [form["title"] for form in forms] == [name]


def test_nothing_is_kept_on_lease(api, models):
    document_of(api)
    assert models.leases == models.releases > 0


def test_a_request_is_described_by_the_signatures(api):
    operation = document_of(api)["paths"]["/v1/models/m:predict"]["post"]
    content = operation["requestBody"]["content"]
    assert content.keys() == {"application/json", "application/x-npy", "application/x-npz"}
    forms = content["application/json"]["schema"]["anyOf"]
    by_name = {(form["title"], form["required"][-1]): form for form in forms}
    row = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    instances = by_name[DEFAULT_SIGNATURE, "instances"]
    assert instances["required"] == ["instances"]
    values, objects = instances["properties"]["instances"]["anyOf"]
    assert values["items"] == row
    assert objects["items"]["required"] == ["x"]
    inputs = by_name["pair", "inputs"]
    assert inputs["required"] == ["signature_name", "inputs"]
    assert inputs["properties"]["inputs"]["required"] == ["s", "n"]


def test_what_json_can_not_carry_is_described_as_arrays_only():
    models = FakeModels(FakeServable(signatures={DEFAULT_SIGNATURE: SIGNATURES["half"]}))
    models.states["m"] = [ServableState(ServableId("m", 3), ManagerState.AVAILABLE)]
    api = RestApi(models, executor=InlineExecutor())
    operation = document_of(api)["paths"]["/v1/models/m:predict"]["post"]
    for described in (operation["requestBody"], operation["responses"]["200"]):
        assert described["content"].keys() == {"application/x-npy", "application/x-npz"}


def test_people_have_a_page_that_needs_nothing_from_elsewhere(api):
    response = ask(api, "GET", "/docs")
    assert response.status == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert b"openapi.json" in response.body
    assert not re.search(rb"(?:https?:)?//[a-z]", response.body)


@pytest.fixture(scope="module")
def port(api):
    server = HttpServer(HttpOptions("127.0.0.1", 0), api)
    server.start()
    yield server.port
    server.stop(0)


QUICK = settings(
    max_examples=12,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CHECKS = [
    checks.not_a_server_error,
    checks.response_schema_conformance,
    checks.status_code_conformance,
    checks.content_type_conformance,
]


def operations(port):
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    for result in schema.get_all_operations():
        yield result.ok()


def test_the_document_is_openapi_and_the_api_keeps_to_it(port):
    """Requests made from the document are answered as it says, with no error of the server."""
    seen = set()
    for operation in operations(port):
        seen.add(operation.path)

        @QUICK
        @given(case=operation.as_strategy())
        def keeps_to_it(case):
            if case.media_type in (None, "application/json"):
                case.validate_response(case.call(), checks=CHECKS)

        keeps_to_it()
    assert len(seen) == 10


def test_the_openapi_document_may_be_asked_for_with_a_head_only(port):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("HEAD", "/docs")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
