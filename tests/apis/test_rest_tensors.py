"""Predict over REST with tensors as numpy stores them."""

from __future__ import annotations

import io
import json

import ml_dtypes
import numpy as np
import pytest
from fake_models import FakeModels
from rest_exchange import ask

from serving.apis.tensorflow_serving.rest.npy import npy_bytes, npz_bytes
from serving.apis.tensorflow_serving.rest.rest_api import RestApi
from serving.core.dtypes import DType, numpy_dtype
from serving.core.servable import DEFAULT_SIGNATURE, Signature, TensorInfo
from serving.testing import FakeServable, InlineExecutor

TARGET = "/v1/models/m:predict"
NPY, NPZ = "application/x-npy", "application/x-npz"
ONE = np.array([1.0, 2.0, 5.0], np.float32)


def info(alias, dtype, shape=(None,)):
    return TensorInfo(f"{alias}:0", dtype, shape)


SIGNATURES = {
    DEFAULT_SIGNATURE: Signature(
        {"x": info("x", DType.FLOAT)}, {"y": info("y", DType.FLOAT)}, "tensorflow/serving/predict"
    ),
    "two": Signature(
        {"x": info("x", DType.FLOAT, (None, 2)), "s": info("s", DType.STRING)},
        {"y": info("y", DType.FLOAT), "s": info("s", DType.STRING)},
        "tensorflow/serving/predict",
    ),
    **{
        dtype.label: Signature({"x": info("x", dtype, None)}, {"x": info("x", dtype)})
        for dtype in DType
        if dtype not in (DType.INVALID, DType.RESOURCE, DType.VARIANT)
    },
}


def compute(feeds):
    return {**feeds, "y:0": feeds["x:0"] / 2 + 2} if feeds["x:0"].dtype == np.float32 else feeds


@pytest.fixture
def api() -> RestApi:
    models = FakeModels(FakeServable(compute, SIGNATURES))
    return RestApi(models, executor=InlineExecutor())


def sent(api, body, media_type=NPY, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(api, "POST", TARGET, body, {"Content-Type": media_type, **named})


def loaded(response):
    assert response.status == 200, response.body
    return np.load(io.BytesIO(response.body), allow_pickle=False)


def test_an_array_goes_in_and_an_array_comes_out(api):
    response = sent(api, npy_bytes(ONE))
    assert response.headers["content-type"] == NPY
    answer = loaded(response)
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, [2.5, 3.0, 4.5])


def test_several_inputs_are_an_archive_and_so_are_several_outputs(api):
    arrays = {"x": np.ones((2, 2), np.float32), "s": np.array([b"a", b"bc"])}
    response = sent(api, npz_bytes(arrays), NPZ, x_signature_name="two")
    assert response.headers["content-type"] == NPZ
    with loaded(response) as archive:
        assert sorted(archive) == ["s", "y"]
        np.testing.assert_array_equal(archive["y"], np.full((2, 2), 2.5))
        np.testing.assert_array_equal(archive["s"], [b"a", b"bc"])


@pytest.mark.parametrize(
    ("sent_as", "accept", "answered_as"),
    [
        ("application/json", NPY, NPY),
        ("application/json", f"text/html, {NPZ}", NPZ),
        ("application/json", "*/*", "application/json"),
        ("application/json", f"application/json, {NPY}", "application/json"),
        ("application/json", f"{NPY};q=0", "application/json"),
        (NPY, "application/json", "application/json"),
        (NPY, "*/*", NPY),
        (NPY, NPZ, NPZ),
        (f"{NPY}; x=1", "", NPY),
    ],
)
def test_the_accept_header_chooses_the_form_of_the_answer(api, sent_as, accept, answered_as):
    body = b'{"inputs": [1.0, 2.0, 5.0]}' if "json" in sent_as else npy_bytes(ONE)
    response = sent(api, body, sent_as, accept=accept)
    assert response.headers["content-type"] == answered_as
    if "json" in answered_as:
        assert json.loads(response.body) == {"outputs": [2.5, 3.0, 4.5]}
    else:
        answer = loaded(response)
        array = answer["y"] if answered_as == NPZ else answer
        np.testing.assert_array_equal(array, [2.5, 3.0, 4.5])


@pytest.mark.parametrize("label", sorted(SIGNATURES.keys() - {DEFAULT_SIGNATURE, "two"}))
def test_every_type_that_a_tensor_may_have_travels(api, label):
    """Quantized types as the integers that they are, those of ml_dtypes as their bytes."""
    native = numpy_dtype(DType[label.upper()])
    stored = np.array([b"a", b"bc"]) if label == "string" else np.zeros(2, native)
    if native.names:
        stored = stored.view(native[0])
    elif native.type.__module__ == ml_dtypes.__name__:
        stored = stored.view(f"V{native.itemsize}")
    answer = loaded(sent(api, npy_bytes(stored), x_signature_name=label))
    assert answer.dtype == stored.dtype
    np.testing.assert_array_equal(answer, stored)


def test_a_foreign_byte_order_and_a_foreign_order_of_elements_are_read(api):
    array = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    answer = loaded(sent(api, npy_bytes(array), x_signature_name="float"))
    np.testing.assert_array_equal(answer, array)


def test_characters_are_sent_as_utf8(api):
    answer = loaded(sent(api, npy_bytes(np.array(["é", "a"])), x_signature_name="string"))
    np.testing.assert_array_equal(answer, ["é".encode(), b"a"])


TWO = {"x": np.ones((1, 2), np.float32), "s": np.array([b"a"])}


@pytest.mark.parametrize(
    ("body", "media_type", "signature", "message"),
    [
        (b"{}", NPY, "", f"The body is no {NPY}: not in the .npy format, versions 1 to 3"),
        (b"{}", NPZ, "", f"The body is no {NPZ}: not an .npz archive, or a broken one"),
        (
            npy_bytes(np.ones(3)),
            NPY,
            "",
            "Input x is of numpy's type float64, but the signature has float",
        ),
        (
            npy_bytes(np.ones(1, "V4")),
            NPY,
            "bfloat16",
            "Input x is of numpy's type void32, but the signature has bfloat16",
        ),
        (
            npy_bytes(np.array([b"a"])),
            NPY,
            "",
            "Input x is of numpy's type bytes8, but the signature has float",
        ),
        (
            npy_bytes(np.ones((1, 3), np.float32)),
            NPY,
            "",
            "Input x has the shape [1,3], but the signature has [?]",
        ),
        (
            npz_bytes(TWO | {"x": np.ones((1, 3), np.float32)}),
            NPZ,
            "two",
            "Input x has the shape [1,3], but the signature has [?,2]",
        ),
        (npy_bytes(ONE), NPY, "two", f"One array is not enough for the inputs s,x: send {NPZ}"),
        (npy_bytes(ONE), NPY, "é", 'Serving signature name: "é" not found in signature def'),
        (
            npz_bytes({"z": ONE}),
            NPZ,
            "",
            "Signature input alias: x(feed name: x:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {z}, or default input alias set: ",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(api, body, media_type, signature, message):
    headers = {"x-signature-name": signature.encode().decode("latin-1")} if signature else {}
    response = ask(api, "POST", TARGET, body, {"Content-Type": media_type, **headers})
    assert (response.status, json.loads(response.body)) == (400, {"error": message})


def test_one_array_can_not_hold_several_outputs(api):
    response = sent(api, npz_bytes(TWO), NPZ, x_signature_name="two", accept=NPY)
    message = f"{NPY} holds one array, but the outputs are s,y: accept {NPZ}"
    assert (response.status, json.loads(response.body)) == (400, {"error": message})


def test_strings_that_the_format_would_change_are_refused(api):
    body = b'{"signature_name": "string", "inputs": ["a\\u0000"]}'
    response = ask(api, "POST", TARGET, body, {"Accept": NPY})
    assert response.status == 400
    assert "Output x has strings that end in zero bytes" in json.loads(response.body)["error"]


def test_only_predict_takes_tensors(api):
    response = ask(api, "POST", "/v1/models/m:classify", npy_bytes(ONE), {"Content-Type": NPY})
    assert response.status == 400
    assert json.loads(response.body)["error"].startswith("JSON Parse error: ")


def test_strings_of_too_different_lengths_are_not_made_as_long_as_the_longest(api):
    values = ["x" * 100_000] + ["a"] * 1000
    document = json.dumps({"signature_name": "string", "inputs": values}).encode()
    refused = sent(api, document, "application/json", Accept=NPY)
    assert refused.status == 400
    assert (
        "Output x has strings of too different lengths for numpy's format"
        in (json.loads(refused.body)["error"])
    )
    assert sent(api, document, "application/json").status == 200


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("point", [0xD800, 0xDFFF, 0x110000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_strings_of_what_is_no_character_are_refused(api, order, point):
    def body(value):
        stored = np.array([ord("a"), value], f"{order}u4")
        return npy_bytes(stored.view(f"{order}U2"))

    refused = sent(api, body(point), x_signature_name="string")
    assert (refused.status, json.loads(refused.body)) == (
        400,
        {"error": "Input x has strings with what is no character of Unicode"},
    )
    assert loaded(sent(api, body(0x10FFFF), x_signature_name="string")).tolist() == [
        "a\U0010ffff".encode()
    ]
