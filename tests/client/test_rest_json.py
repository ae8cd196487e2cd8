"""What the client over REST makes of documents, and of what it knows of signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from model_server_client import ModelSpec, ServerError, Signature, TensorInfo
from model_server_client.async_rest_client import AsyncRestClient
from model_server_client.rest_client import RestClient
from model_server_client.rest_json import model_path, outputs_of
from model_server_client.rest_signatures import LEARNED_FOR_SECONDS, KnownSignatures


def signature(dtype: Any) -> Signature:
    return Signature({}, {"y": TensorInfo(np.dtype(dtype), None)}, "")


@pytest.mark.parametrize(
    ("dtype", "written", "expected"),
    [
        (np.int32, b"[1, -2]", [1, -2]),
        (np.uint64, b"[18446744073709551615]", [2**64 - 1]),
        (np.float16, b"[1, 2.5]", [1.0, 2.5]),
        (np.bool_, b"[true]", [True]),
        (np.int64, b"[]", []),
        (object, b'[["a", {"b64": "/w=="}]]', [[b"a", b"\xff"]]),
        (object, b'"alone"', b"alone"),
    ],
)
def test_outputs_have_the_type_of_the_signature(dtype: Any, written: bytes, expected: Any) -> None:
    output = outputs_of(b'{"outputs": %s}' % written, signature(dtype))["y"]
    assert output.dtype == np.dtype(dtype)
    assert output.tolist() == expected


@pytest.mark.parametrize(
    ("dtype", "written"),
    [
        (np.int64, b"[2.5]"),
        (np.bool_, b"[2.5]"),
        (np.bool_, b"[1]"),
        (np.float32, b'["1.5"]'),
        (np.int32, b"[3000000000]"),
        (np.int32, b"[[1], [2, 3]]"),
        (np.float32, b"[null]"),
        (object, b"[1]"),
        (object, b'[["a"], "b"]'),
    ],
)
def test_what_cannot_be_of_the_signatures_type_is_no_answer_of_it(
    dtype: Any, written: bytes
) -> None:
    """A cast would make other numbers of it without a word."""
    with pytest.raises(ServerError, match="not an answer with a prediction"):
        outputs_of(b'{"outputs": %s}' % written, signature(dtype))


def test_the_signature_of_a_version_is_known_for_good_and_others_for_a_minute() -> None:
    now = 1000.0
    known = KnownSignatures(lambda: now)
    pinned, newest = ModelSpec("m", version=1), ModelSpec("m")
    for model in (pinned, newest):
        known.learn(model, {"serving_default": signature(np.int8)})
    now += LEARNED_FOR_SECONDS - 1
    assert known.of(newest) == known.of(pinned) == signature(np.int8)
    now += 2
    assert known.of(newest) is None
    assert known.of(pinned) == signature(np.int8)


def test_a_name_is_one_segment_of_the_path() -> None:
    assert model_path(ModelSpec("a/../b?c#d")) == "/v1/models/a%2F..%2Fb%3Fc%23d"
    assert model_path(ModelSpec("m", label="x/y")) == "/v1/models/m/labels/x%2Fy"


@pytest.mark.parametrize("kind", [RestClient, AsyncRestClient])
def test_a_url_without_its_scheme_is_a_value_error(kind: Any) -> None:
    with pytest.raises(ValueError, match="localhost:8501"):
        kind("localhost:8501")
