"""Whatever clients send: an answer, and never one that takes the blame for their mistake."""

from __future__ import annotations

import copy
import gzip
import io
import json
import math
import zipfile

import numpy as np
import pytest
import zstandard
from fake_models import FakeModels
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_exchange import ask

from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.core.dtypes import DType, dtype_of
from serving.core.servable import DEFAULT_SIGNATURE, Signature, TensorInfo
from serving.testing import FakeServable, InlineExecutor

EXAMPLES = settings(max_examples=200)
CLIENTS_MISTAKE = {400, 404, 413, 501}
DTYPES = [DType.FLOAT, DType.INT8, DType.INT64, DType.UINT64, DType.BOOL, DType.STRING, DType.HALF]


def signature(*dtypes, rank=1):
    shape = (None,) * rank
    inputs = {f"x{n}": TensorInfo(f"x{n}:0", dtype, shape) for n, dtype in enumerate(dtypes)}
    return Signature(inputs, inputs, "tensorflow/serving/predict")


SIGNATURES = {
    DEFAULT_SIGNATURE: signature(DType.FLOAT),
    "several": signature(*DTYPES),
    "examples": Signature(
        {"inputs": TensorInfo("x0:0", DType.STRING, (None,))},
        {
            "scores": TensorInfo("scores:0", DType.FLOAT, (None, 1)),
            "outputs": TensorInfo("scores:0", DType.FLOAT, (None, 1)),
        },
        "tensorflow/serving/classify",
    ),
    **{dtype.label: signature(dtype, rank=2) for dtype in DTYPES},
}


def compute(feeds):
    """The identity; breaks, as an engine would not, for arrays that are no tensors."""
    for array in feeds.values():
        dtype_of(array)
        if array.dtype == np.object_:
            assert all(type(item) is bytes for item in array.ravel().tolist())
    size = len(feeds.get("x0:0", np.zeros(1)).ravel())
    return {**feeds, "scores:0": np.zeros((size, 1), np.float32)}


@pytest.fixture(scope="module")
def api():
    models = FakeModels(FakeServable(compute, SIGNATURES))
    options = RestOptions(max_body_bytes=10**6, honor_priorities=True)
    return RestApi(models, executor=InlineExecutor(), options=options), models


def check(served, method, target, body=b"", headers=None):
    """The status is that of a success or of a client's mistake, and what is lent came back."""
    api, models = served
    response = ask(api, method, target, body, headers)
    assert response.status in CLIENTS_MISTAKE | {200}, (target, body, response)
    assert models.leases == models.releases
    if response.status != 200 and response.body.startswith(b"{"):
        assert json.loads(response.body.decode("utf-8", "replace"))["error"]
    return response


VALUES = {
    DType.FLOAT: st.floats(width=32) | st.integers(),
    DType.BOOL: st.booleans(),
    DType.STRING: st.text()
    | st.binary().map(lambda data: {"b64": data.hex()})
    | st.builds(dict, b64=st.just("aGk=")),
}
ODD = st.sampled_from(
    [None, "", {}, [], [[]], {"b64": 1}, {"b64": "!"}, 1.5, True, -1, 2**70, -(2**64), "\ud800"]
).map(copy.deepcopy)  # a document is changed in place, and the next example draws from these again


def value_of(dtype, depth):
    leaf = VALUES.get(dtype, st.integers(-(2**31), 2**31))
    return st.lists(leaf, max_size=3) if depth else leaf


@st.composite
def documents(draw):
    """A document for a signature, most often right but for one thing."""
    name = draw(st.sampled_from([*SIGNATURES, "no such"]))
    known = SIGNATURES.get(name, SIGNATURES[DEFAULT_SIGNATURE])
    dtypes = {alias: (info.dtype, len(info.shape)) for alias, info in known.inputs.items()}
    rows = draw(st.integers(1, 3))
    objects = [
        {alias: draw(value_of(dtype, rank - 1)) for alias, (dtype, rank) in dtypes.items()}
        for _ in range(rows)
    ]
    form = draw(st.sampled_from(["instances", "inputs", "examples", "bare"]))
    content = {
        "instances": objects,
        "inputs": {alias: [row[alias] for row in objects] for alias in dtypes},
        "examples": objects,
        "bare": [next(iter(row.values())) for row in objects],
    }[form]
    document = {"signature_name": name, "instances" if form == "bare" else form: content}
    if draw(st.booleans()):
        place, key = draw(st.sampled_from(list(places(document))))
        place[key] = draw(ODD)
    return document


def places(value):
    """Every place in a document: what holds it, and under which key."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, member in items:
        yield value, key
        if isinstance(member, dict | list):
            yield from places(member)


@EXAMPLES
@given(
    document=documents(),
    verb=st.sampled_from(["predict", "classify", "regress"]),
    accept=st.sampled_from(["", "application/x-npz", "application/x-npy"]),
)
def test_documents_with_one_thing_wrong(api, document, verb, accept):
    body = json.dumps(document).encode()
    check(api, "POST", f"/v1/models/m:{verb}", body, {"Accept": accept} if accept else None)


@EXAMPLES
@given(
    document=documents(),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=3),
)
def test_bytes_that_are_nearly_a_document(api, document, edits):
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    for place, put in edits:
        at = math.floor(place * len(body))
        body = body[:at] + put + body[at + len(put) // 2 + 1 :]
    check(api, "POST", "/v1/models/m:predict", body)


HERE = "~here~"  # stands for what json.dumps can not write
RAW = st.sampled_from(
    [
        b"[" * 5000,
        b"[" * 5000 + b"]" * 5000,
        b'{"x0": ' * 5000 + b"1" + b"}" * 5000,
        b"9" * 5000,
        b"-1e" + b"9" * 400,
        b"1e-" + b"9" * 400,
        b"0." + b"0" * 5000 + b"1",
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',  # half a surrogate pair, in UTF-8
        b'"\\ud800"',
        b'"\xf0\x9f\x92"',
        b'{"x0": 1, "x0": [2], "x0": "3"}',
        b'{"b64": "aGk=", "b64": 1}',
        b'{"b64": "' + b"A" * 5001 + b'"}',
        b"",
        b"nan",
        b"[1],, [2]",
        b"'1'",
        b"\0",
    ]
)


@EXAMPLES
@given(document=documents(), raw=RAW, data=st.data())
def test_documents_with_one_piece_that_may_be_no_json(api, document, raw, data):
    """Depth, numbers, texts and keys that no writer of JSON gives, at any place."""
    place, key = data.draw(st.sampled_from(list(places(document))))
    place[key] = HERE
    body = json.dumps(document).encode().replace(json.dumps(HERE).encode(), raw)
    verb = data.draw(st.sampled_from(["predict", "classify", "regress"]))
    check(api, "POST", f"/v1/models/m:{verb}", body)


@EXAMPLES
@given(
    document=documents(),
    coding=st.sampled_from(["gzip", "zstd"]),
    cut=st.tuples(st.floats(0, 1), st.binary(max_size=20)),
    damage=st.tuples(st.floats(0, 1), st.binary(max_size=1)),
)
def test_compressed_bodies_of_any_length(api, document, coding, cut, damage):
    """Cut short, longer than what is compressed, or damaged in one place."""
    compress = {"gzip": gzip.compress, "zstd": zstandard.compress}[coding]
    body = compress(json.dumps(document).encode())
    body = body[: math.ceil(cut[0] * len(body))] + cut[1]
    at = math.floor(damage[0] * len(body))
    body = body[:at] + damage[1] + body[at + 1 :]
    check(api, "POST", "/v1/models/m:predict", body, {"Content-Encoding": coding})


SEGMENTS = st.sampled_from(
    ["v1", "V1", "models", "m", "versions", "labels", "1", "007", "-1", "9" * 30, "metadata", ""]
) | st.text(st.characters(codec="ascii", min_codepoint=33), max_size=5)
ODD_SEGMENTS = st.sampled_from(
    [".", "..", "%", "%2F", "%ff", "%00", "\xe9", "m:predict", "m:PREDICT", ":", "?", "a b", "#"]
)


@EXAMPLES
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "X"]),
    segments=st.lists(SEGMENTS | ODD_SEGMENTS, max_size=8),
    end=st.sampled_from(["", ":predict", ":classify", "/metadata", "?", "?x=1"]),
)
def test_targets_of_any_kind(api, method, segments, end):
    for target in ("/" + "/".join(segments) + end, "/v1/models/" + "/".join(segments) + end):
        check(api, method, target, b'{"instances": [1]}')


NAMES = st.sampled_from(
    ["content-type", "content-encoding", "content-length", "accept", "accept-encoding", "origin"]
) | st.sampled_from(["x-signature-name", "x-request-priority"])
ODD_VALUES = st.sampled_from(
    ["gzip", "zstd", "gzip;q=2", "identity;q=0", "*", "high", "-1", "\xff", ",", ";", "9" * 99, ""]
) | st.sampled_from(["application/x-npy", "application/x-npz", "application/json;q=0"])
HEADERS = st.dictionaries(
    NAMES, ODD_VALUES | st.text(st.characters(codec="latin-1", min_codepoint=32), max_size=20)
)


@EXAMPLES
@given(headers=HEADERS, body=st.binary(max_size=60) | st.just(b'{"instances": [1]}'))
def test_headers_of_any_kind(api, headers, body):
    check(api, "POST", "/v1/models/m:predict", body, headers)


DEEP = 60_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP,
        b'{"instances": ' + b"[" * DEEP + b"1" + b"]" * DEEP + b"}",
        b'{"instances": [' + b'{"x0": ' * DEEP + b"1" + b"}" * DEEP + b"]}",
        b'{"inputs": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
        b'{"inputs": {"x0": ' + b'{"b64": ' * 900 + b"1" + b"}" * 900 + b"}}",
        b'{"signature_name": "string", "inputs": ' + b'{"b64": ' * 900 + b"1" + b"}" * 901,
        b'{"examples": [{"a": ' + b"[" * 900 + b"]" * 900 + b"}]}",
        b'{"instances": [' + b"9" * 5000 + b"]}",
        b'{"instances": [1e' + b"9" * 5000 + b"]}",
        b'{"instances": [-' + b"9" * 400 + b"]}",
        b'{"instances": ["' + b"\\u0000" * 1000 + b'"]}',
        b'{"instances": [1], "instances": ["x"]}',
        b'{"a": "' + b"\xff" * 1000 + b'", "instances": [true]}',
        b'{"instances": [1' + b" " * 900_000,
        b'{"' + b"a" * 900_000,
    ],
    ids=lambda body: repr(body[:30]),
)
@pytest.mark.parametrize("verb", ["predict", "classify"])
def test_what_brings_down_parsers(api, body, verb):
    response = check(api, "POST", f"/v1/models/m:{verb}", body)
    is_right = b'"instances": [1], ' in body  # the first of two keys counts
    assert response.status == (200 if is_right and verb == "predict" else 400)


DESCRS = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "<", ">", "|", "="]),
    st.sampled_from("biufcSUVmMO?"),
    st.sampled_from(["", "0", "1", "2", "4", "8", "9" * 9, "8[s/0]"]),
)
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**61, 2**64, -1]), max_size=3).map(tuple)


@EXAMPLES
@given(
    form=st.tuples(DESCRS, SHAPES),
    data=st.binary(max_size=32) | st.integers(0, 8).map(lambda size: b"\xff" * 4 * size),
    name=st.sampled_from(["", "several", "examples", *(dtype.label for dtype in DTYPES)]),
    packed=st.booleans(),
)
def test_arrays_of_any_kind(api, form, data, name, packed):
    descr, shape = form
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    body = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data
    if packed:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x0.npy", body)
        body = file.getvalue()
    kind = "application/x-npz" if packed else "application/x-npy"
    headers = {"Content-Type": kind, "x-signature-name": name}
    check(api, "POST", "/v1/models/m:predict", body, headers)
