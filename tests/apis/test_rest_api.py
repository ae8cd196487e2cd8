"""The REST gateway: every endpoint, every refusal, over ASGI and over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import uvicorn
from rest_exchange import exchange
from waiting import WAIT_SECONDS

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.npy import npz_bytes
from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.batching.direct_servable import DirectServable
from serving.core.clock import SystemClock
from serving.core.dtypes import DType
from serving.core.errors import (
    Code,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
    Unimplemented,
    error_for,
)
from serving.core.models import Leased, ModelSpec
from serving.core.servable import DEFAULT_SIGNATURE, Signature, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import request_count
from serving.testing import FakeClock, FakeServable, InlineExecutor


def info(alias: str, dtype: DType) -> TensorInfo:
    return TensorInfo(f"{alias}:0", dtype, (None,))


def signature(inputs: Mapping[str, DType], outputs: Mapping[str, DType], method: str) -> Signature:
    return Signature(
        {alias: info(alias, dtype) for alias, dtype in inputs.items()},
        {alias: info(alias, dtype) for alias, dtype in outputs.items()},
        f"tensorflow/serving/{method}",
    )


SIGNATURES = {
    DEFAULT_SIGNATURE: signature({"x": DType.FLOAT}, {"y": DType.FLOAT}, "predict"),
    "both": signature(
        {"x": DType.FLOAT, "s": DType.STRING},
        {"y": DType.FLOAT, "s_bytes": DType.STRING},
        "predict",
    ),
    "half": signature({"h": DType.HALF}, {"y": DType.FLOAT}, "predict"),
    "to_half": signature({"x": DType.FLOAT}, {"h": DType.HALF}, "predict"),
    "sum": signature({"x": DType.FLOAT}, {"sum": DType.FLOAT}, "predict"),
    "nothing": signature({}, {"y": DType.FLOAT}, "predict"),
    "classify": signature(
        {"inputs": DType.STRING},
        {"classes": DType.STRING, "scores": DType.FLOAT},
        "classify",
    ),
    "regress": signature({"inputs": DType.STRING}, {"outputs": DType.FLOAT}, "regress"),
    "odd_method": signature({"x": DType.FLOAT}, {"y": DType.FLOAT}, "other"),
}


def compute(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    if "inputs:0" in feeds:
        sizes = np.array([len(example) for example in feeds["inputs:0"]], np.float32)
        labels = np.full((len(sizes), 1), b"size", object)
        return {
            "classes:0": labels,
            "scores:0": sizes.reshape(-1, 1),
            "outputs:0": sizes,
        }
    x = feeds["x:0"]
    return {
        "y:0": x / 2 + 2,
        "h:0": x.astype(np.float16),
        "sum:0": x.sum(dtype=np.float32),
        "s_bytes:0": feeds.get("s:0"),
    }


class Failing(FakeServable):
    """Fails every run with one error, or breaks."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def run(self, feeds, fetches, options, done):
        if not isinstance(self._error, ServingError):
            raise self._error
        done(self._error)


class Elsewhere(FakeServable):
    """Completes each run on a thread of its own, as a batch does; remembers the options."""

    options = None

    def run(self, feeds, fetches, options, done):
        self.options = options
        run = super().run
        thread = threading.Thread(target=lambda: run(feeds, fetches, options, done))
        thread.start()
        thread.join()


class FakeModels:
    """Models by name, version 123; counts what is lent and not yet given back."""

    def __init__(self, **servables: object) -> None:
        self.servables = servables
        self.leases: list[ModelSpec] = []
        self.lent = 0

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        self.leases.append(spec)
        try:
            handle = self._lease(spec)
        except ServingError as error:
            handle = error
        leased(handle)

    def _lease(self, spec: ModelSpec) -> ServableHandle:
        if spec.version_label not in (None, "stable"):
            raise InvalidArgument(f"Unrecognized servable version label: {spec.version_label}")
        if spec.name not in self.servables:
            raise NotFound(f"Servable not found for request: Latest({spec.name})")
        if spec.version not in (None, 123):
            raise NotFound(f"Servable not found for request: Specific({spec.name}, {spec.version})")
        self.lent += 1
        return ServableHandle(ServableId(spec.name, 123), self.servables[spec.name], self._release)

    def _release(self, handle: ServableHandle) -> None:
        self.lent -= 1

    def versions(self, name: str) -> list[ServableState]:
        if name not in self.servables:
            return []
        broken = Internal('no "op"')
        return [
            ServableState(ServableId(name, 124), ManagerState.END, broken),
            ServableState(ServableId(name, 123), ManagerState.AVAILABLE),
        ]

    def names(self) -> list[str]:
        return list(self.servables)

    def begin_reload(self, configs, done) -> None:
        raise AssertionError("the REST API has no reload")


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: str


async def asgi_exchange(api, method, target, body, headers) -> Response:
    middle = len(body) // 2
    answer = await exchange(api, method, target, [body[:middle], body[middle:]], headers)
    text = answer.body.decode("utf-8", "surrogateescape")
    return Response(answer.status, answer.headers, text)


def ask(api, method, target, body="", headers=None) -> Response:
    data = body if isinstance(body, bytes) else body.encode()
    return asyncio.run(asgi_exchange(api, method, target, data, headers or {}))


def error_body(message: str) -> str:
    return f'{{\n    "error": {json.dumps(message, ensure_ascii=False)}\n}}'


@pytest.fixture
def models() -> Iterator[FakeModels]:
    """The models of the tests; what they lend must have been given back in the end."""
    models = FakeModels(m=FakeServable(compute, SIGNATURES))
    yield models
    assert models.lent == 0


@pytest.fixture
def api(models) -> RestApi:
    return RestApi(models, executor=InlineExecutor())


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


STATUS = """{
 "model_version_status": [
  {
   "version": "124",
   "state": "END",
   "status": {
    "error_code": "INTERNAL",
    "error_message": "no \\"op\\""
   }
  },
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
"""


def test_the_status_lists_every_version(api):
    response = ask(api, "GET", "/v1/models/m")
    assert (response.status, response.body) == (200, STATUS)
    assert response.headers["content-type"] == "application/json"


def test_the_status_ignores_labels(api):
    assert ask(api, "GET", "/v1/models/m/labels/unknown").body == STATUS


def test_the_status_of_one_version(api):
    document = json.loads(ask(api, "GET", "/v1/models/m/versions/123").body)
    assert [entry["version"] for entry in document["model_version_status"]] == ["123"]


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/v1/models/n", 404, "Could not find any versions of model n"),
        ("/v1/models/m/versions/7", 404, "Could not find version 7 of model m"),
        ("/v1/models/versions/7", 400, "Missing model name in request."),
        ("/v1/models/", 400, "Malformed request: GET /v1/models/"),
        ("/v1/models/n/metadata", 404, "Servable not found for request: Latest(n)"),
        ("/v1/models/m?x=1", 404, "Could not find any versions of model m?x=1"),
    ],
)
def test_a_bad_get_is_refused_with_its_text(api, target, status, message):
    response = ask(api, "GET", target)
    assert (response.status, response.body) == (status, error_body(message))


def test_the_list_has_every_configured_model_and_the_states_of_its_versions(models):
    class Listed(FakeModels):
        def versions(self, name):
            if name == "none":
                raise NotFound("nothing was found there")
            return super().versions(name)

    models = Listed(m=FakeServable(), none=FakeServable())
    response = ask(RestApi(models, executor=InlineExecutor()), "GET", "/v1/models")
    assert response.status == 200
    assert json.loads(response.body) == {
        "models": [
            {"name": "m", **json.loads(STATUS)},
            {"name": "none", "model_version_status": []},
        ]
    }


def test_metadata_prints_every_field_of_every_signature(models):
    plain = signature({"x": DType.FLOAT}, {}, "predict")
    models.servables["m"] = FakeServable(signatures={"s": plain})
    response = ask(RestApi(models, executor=InlineExecutor()), "GET", "/v1/models/m/metadata")
    assert response.status == 200
    assert json.loads(response.body) == {
        "model_spec": {"name": "m", "signature_name": "", "version": "123"},
        "metadata": {
            "signature_def": {
                "signature_def": {
                    "s": {
                        "inputs": {
                            "x": {
                                "dtype": "DT_FLOAT",
                                "tensor_shape": {
                                    "dim": [{"size": "-1", "name": ""}],
                                    "unknown_rank": False,
                                },
                                "name": "x:0",
                            }
                        },
                        "outputs": {},
                        "method_name": "tensorflow/serving/predict",
                        "defaults": {},
                    }
                }
            }
        },
    }


def test_targets_outside_the_api_get_a_page(api):
    response = ask(api, "GET", "/v2/models/m")
    assert response.status == 404
    assert response.headers["content-type"].startswith("text/html")
    assert "<H1>Not Found</H1>" in response.body


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


REQUEST = b'{"instances": [1.0, 2.0, 5.0]}'


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


@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/v1/models/m:predict"), ("GET", "/v1/models/m/metadata")]
)
def test_a_call_holds_no_thread_while_its_model_loads(method, target):
    """With one thread, taken up by a job that begins after the call, the lease still arrives."""

    class Loading(FakeModels):
        def __init__(self) -> None:
            super().__init__(m=FakeServable(compute, SIGNATURES))
            self.deadline = 0.0

        def lease(self, spec, deadline, leased):
            self.deadline = deadline

            def end_load() -> None:
                executor.submit(lambda: None).result(WAIT_SECONDS)
                lend(spec, deadline, leased)

            lend = super().lease
            threading.Thread(target=end_load, daemon=True).start()

    models = Loading()
    with ThreadPoolExecutor(1) as executor:
        api = RestApi(models, executor=executor, clock=FakeClock(1000.0))
        assert ask(api, method, target, REQUEST).status == 200
    assert (models.lent, models.deadline) == (0, 1030.0)


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


class Recording(InlineExecutor):
    """Counts what is submitted."""

    submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("kind", [FakeServable, Elsewhere])
@pytest.mark.parametrize(
    ("request_rows", "answer_size", "jobs"), [(3, 1, 0), (3, 2000, 1), (20_000, 1, 2)]
)
def test_what_is_large_is_handed_to_the_executor_and_what_is_small_is_not(
    kind, request_rows, answer_size, jobs
):
    """Neither the event loop nor the thread of a batch does the work of a large one.

    The executor's thread is that of the event loop here, so a large request is two jobs.
    """
    executor = Recording()
    models = FakeModels(m=kind(lambda feeds: {"y:0": np.repeat(feeds["x:0"], answer_size)}))
    body = json.dumps({"instances": [1.0] * request_rows})
    response = ask(RestApi(models, executor=executor), "POST", "/v1/models/m:predict", body)
    assert json.loads(response.body) == {"predictions": [1.0] * request_rows * answer_size}
    assert (executor.submitted, models.lent) == (jobs, 0)


def test_the_status_answers_while_every_thread_runs_a_model():
    begun, end = threading.Event(), threading.Event()

    def compute_slowly(feeds):
        begun.set()
        end.wait(5)  # or it would hang where it should fail
        return {"y:0": feeds["x:0"]}

    async def exchange(api):
        run = asyncio.create_task(asgi_exchange(api, "POST", "/v1/models/m:predict", REQUEST, {}))
        while not begun.is_set():
            await asyncio.sleep(0)
        status = await asgi_exchange(api, "GET", "/v1/models/m", b"", {})
        still_running = not run.done()
        end.set()
        await run
        return status.status, still_running

    with ThreadPoolExecutor(1) as executor:
        servable = DirectServable(FakeServable(compute_slowly), executor, SystemClock())
        api = RestApi(FakeModels(m=servable), executor=executor)
        assert asyncio.run(exchange(api)) == (200, True)


def test_a_call_after_the_shutdown_is_unavailable(models):
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    large = REQUEST + b" " * 2**20
    response = ask(RestApi(models, executor=executor), "POST", "/v1/models/m:predict", large)
    assert (response.status, response.body) == (503, error_body("the server is shutting down"))


class ShutsDown(InlineExecutor):
    """Takes one job and no more."""

    taken = False

    def submit(self, fn, /, *args, **kwargs):
        if self.taken:
            raise RuntimeError("cannot schedule new futures after shutdown")
        self.taken = True
        return super().submit(fn, *args, **kwargs)


def test_a_run_that_completes_after_the_shutdown_is_answered():
    models = FakeModels(m=Elsewhere())
    large = json.dumps({"instances": [1.0] * 10_000})
    response = ask(RestApi(models, executor=ShutsDown()), "POST", "/v1/models/m:predict", large)
    assert (response.status, models.lent) == (200, 0)


def test_a_client_that_leaves_before_the_end_gets_no_answer(api):
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError("nobody listens")

    scope = {"type": "http", "method": "POST", "path": "/v1/models/m:predict", "headers": []}
    asyncio.run(api(scope, receive, send))


def test_other_protocols_are_refused(api):
    with pytest.raises(Unimplemented):
        asyncio.run(api({"type": "websocket"}, None, None))


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
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        config = uvicorn.Config(
            RestApi(models, executor=executor), http="httptools", lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


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


class Noting(FakeServable):
    """Notes the thread of each run, and whether it was told that it may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = []

    def run(self, feeds, fetches, options, done):
        self.runs.append((threading.current_thread().name, options.caller_may_wait))
        super().run(feeds, fetches, options, done)


@pytest.mark.parametrize(("rows", "thread"), [(3, "MainThread"), (20_000, "executor_0")])
def test_after_a_load_what_is_large_goes_on_off_the_event_loop(rows, thread):
    servable = Noting()

    class Loading(FakeModels):
        def lease(self, spec, deadline, leased):
            lend = super().lease
            threading.Thread(target=lambda: lend(spec, deadline, leased)).start()

    with ThreadPoolExecutor(1, thread_name_prefix="executor") as executor:
        api = RestApi(Loading(m=servable), executor=executor)
        body = json.dumps({"instances": [1.0] * rows})
        assert ask(api, "POST", "/v1/models/m:predict", body).status == 200
    assert servable.runs == [(thread, thread != "MainThread")]


def test_for_a_client_that_has_left_nothing_is_written(monkeypatch):
    """It would be written on the thread of the batch, and keep the next one waiting."""
    written = []
    monkeypatch.setattr(json_writer, "predictions", written.append)
    ends = []

    class Held(FakeServable):
        def run(self, feeds, fetches, options, done):
            run = super().run
            ends.append((options.cancellation, lambda: run(feeds, fetches, options, done)))

    models = FakeModels(m=Held())
    incoming = [{"type": "http.request", "body": REQUEST}, {"type": "http.disconnect"}]

    async def receive():
        return incoming.pop(0)

    async def send(message):
        assert message

    async def exchange():
        scope = {"type": "http", "method": "POST", "path": "/v1/models/m:predict", "headers": []}
        call = asyncio.create_task(RestApi(models, executor=InlineExecutor())(scope, receive, send))
        while not (ends and ends[0][0].cancelled):
            await asyncio.sleep(0)
        batch = threading.Thread(target=ends[0][1])
        batch.start()
        await call
        batch.join()

    asyncio.run(exchange())
    assert (written, models.lent) == ([], 0)


def test_a_short_archive_which_may_hold_much_is_read_off_the_event_loop():
    executor = Recording()
    api = RestApi(FakeModels(m=FakeServable()), executor=executor)
    body = npz_bytes({"x": np.ones(3, np.float32)})
    headers = {"Content-Type": "application/x-npz"}
    assert ask(api, "POST", "/v1/models/m:predict", body, headers).status == 200
    assert executor.submitted > 0


def stopped(api, has_come_so_far):
    """The answer to a request that is being worked on when the time of the server is over."""

    async def stop():
        run = asyncio.create_task(asgi_exchange(api, "POST", "/v1/models/m:predict", REQUEST, {}))
        await asyncio.sleep(0)
        while not has_come_so_far():
            await asyncio.sleep(0)
        run.cancel()
        return (await run).status

    return asyncio.run(stop())


def test_a_call_is_not_begun_after_the_stop(models):
    assert stopped(RestApi(models, executor=InlineExecutor()), lambda: True) == 503
    assert models.leases == []


def test_a_call_that_is_stopped_when_it_has_just_begun_is_cancelled():
    begun = []

    class Unanswered(FakeServable):
        def run(self, feeds, fetches, options, done):
            begun.append(options.cancellation)

    api = RestApi(FakeModels(m=Unanswered()), executor=InlineExecutor())
    assert stopped(api, lambda: begun) == 503
    assert begun[0].cancelled


def test_an_answer_that_is_there_at_the_stop_is_sent():
    run = []

    def compute(feeds):
        run.append(feeds)
        return {"y:0": feeds["x:0"]}

    models = FakeModels(m=FakeServable(compute))
    assert stopped(RestApi(models, executor=InlineExecutor()), lambda: run) == 200
    assert models.lent == 0
