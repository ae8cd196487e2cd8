"""JSON values become arrays of the signature's element types, or a text that says who is wrong."""

from __future__ import annotations

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.apis.tensorflow_serving.rest.json_document import read_object
from serving.apis.tensorflow_serving.rest.json_tensor import arrays_from_columns, arrays_from_rows
from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import Code, ServingError
from serving.core.servable import TensorInfo


def inputs(**dtypes: DType) -> dict[str, TensorInfo]:
    return {alias: TensorInfo(f"{alias}:0", dtype, None) for alias, dtype in dtypes.items()}


def value_of(text: str):
    return read_object(f'{{"v": {text}}}'.encode())["v"]


def rows(text: str, **dtypes: DType):
    return arrays_from_rows(value_of(text), inputs(**dtypes))


def columns(text: str, **dtypes: DType):
    return arrays_from_columns(value_of(text), inputs(**dtypes))


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        (DType.INT32, "[[1,2],[3,4],[5,6]]", [[1, 2], [3, 4], [5, 6]]),
        (DType.FLOAT, "[1, 2.0, 5.003, 0.0]", [1, 2, np.float32(5.003), 0]),
        (DType.FLOAT, "[1e300, -1e300, 16777217]", [math.inf, -math.inf, 16777216]),
        (DType.FLOAT, "[NaN, Infinity]", [math.nan, math.inf]),
        (DType.DOUBLE, "[9007199254740993, 0.1]", [9007199254740992, 0.1]),
        (DType.INT64, f"[{-(2**63)}, {2**63 - 1}]", [-(2**63), 2**63 - 1]),
        (DType.UINT32, f"[{2**32 - 1}]", [2**32 - 1]),
        (DType.UINT64, f"[{2**64 - 1}]", [2**64 - 1]),
        (DType.BOOL, "[true, false]", [True, False]),
        (DType.INT8, "[300, -129]", [44, 127]),
        (DType.UINT8, "[-1, 256]", [255, 0]),
        (DType.INT16, "[65535]", [-1]),
        (DType.STRING, '["\u00e9", {"b64": "aGVsbG8="}]', ["\u00e9".encode(), b"hello"]),
        (DType.STRING, '[[{"b64": "aGk="}]]', [[b"hi"]]),
        (DType.INT32, "[[], []]", np.zeros((2, 0))),
        (DType.HALF, "[[]]", np.zeros((1, 0))),
    ],
)
def test_rows_of_values_become_one_array(dtype, text, expected):
    array = rows(text, x=dtype)["x"]
    assert array.dtype == numpy_dtype(dtype)
    np.testing.assert_array_equal(array, np.array(expected, numpy_dtype(dtype)))


def test_rows_of_objects_become_an_array_for_each_input():
    result = rows('[{"a": [1], "b": "x"}, {"b": "y", "a": [2]}]', a=DType.INT32, b=DType.STRING)
    np.testing.assert_array_equal(result["a"], [[1], [2]])
    np.testing.assert_array_equal(result["b"], np.array([b"x", b"y"], object))


def test_rows_of_one_input_may_name_it():
    np.testing.assert_array_equal(rows('[{"x": 1}, {"x": 2}]', x=DType.INT32)["x"], [1, 2])


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        ("-_8=", b"\xfb\xff"),
        ("+/8=", b"\xfb\xff"),
        ("aGk", b"hi"),
        ("aG\\nk=", b"hi"),
        ("", b""),
    ],
    ids=["URL-safe", "standard", "unpadded", "line break", "empty"],
)
def test_base64_is_read_in_both_alphabets(encoded, decoded):
    assert columns(f'{{"b64": "{encoded}"}}', x=DType.STRING)["x"].item() == decoded


FAILED_0 = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "
FAILED_1 = "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize(
    ("dtype", "text", "message"),
    [
        (DType.FLOAT, "[1, [1]]", FAILED_1 + "Expecting shape [] but got: [1]"),
        (DType.INT32, "[[1,2],[3,4,5]]", FAILED_1 + "Expecting tensor size: 2 but got: 3"),
        (DType.INT32, "[[[1,2],[3,4]],[1,2,3,4]]", FAILED_1 + "Expecting shape [2,2] but got: [4]"),
        (
            DType.INT32,
            "[[[1,2],[3]]]",
            FAILED_0 + "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            DType.INT32,
            "[[1,[2]]]",
            FAILED_0 + "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            DType.INT32,
            "[[[1],2]]",
            FAILED_0 + "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. "
            "Expected at level: 2",
        ),
        (
            DType.FLOAT,
            '[1, "x"]',
            FAILED_1 + 'JSON Value: "x" Type: String is not of expected type: float',
        ),
        (
            DType.FLOAT,
            "[true]",
            FAILED_0 + "JSON Value: true Type: True is not of expected type: float",
        ),
        (
            DType.FLOAT,
            "[null]",
            FAILED_0 + "JSON Value: null Type: Null is not of expected type: float",
        ),
        (
            DType.INT32,
            "[1.0]",
            FAILED_0 + "JSON Value: 1.0 Type: Number is not of expected type: int32",
        ),
        (
            DType.INT8,
            "[2147483648]",
            FAILED_0 + "JSON Value: 2147483648 Type: Number is not of expected type: int8",
        ),
        (
            DType.UINT64,
            "[-1]",
            FAILED_0 + "JSON Value: -1 Type: Number is not of expected type: uint64",
        ),
        (
            DType.BOOL,
            "[0]",
            FAILED_0 + "JSON Value: 0 Type: Number is not of expected type: bool",
        ),
        (
            DType.STRING,
            "[1]",
            FAILED_0 + "JSON Value: 1 Type: Number is not of expected type: string",
        ),
        (
            DType.FLOAT,
            '[{"b64": "aGk="}]',
            FAILED_0 + 'JSON Value: {\n    "b64": "aGk="\n} Type: Object is not of expected '
            "type: float",
        ),
        (DType.STRING, '["x", {"b64": "?"}]', FAILED_1 + "Unable to base64 decode"),
        (DType.STRING, '[{"b64": "aGk=="}]', FAILED_0 + "Unable to base64 decode"),
        (
            DType.STRING,
            '[["x", {"b64": 1}]]',
            FAILED_0 + 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data',
        ),
        (
            DType.HALF,
            "[0]",
            "Failed to process element: 0 of 'instances' list. Error: "
            "UNIMPLEMENTED: Conversion of JSON Value: 0 to type: half",
        ),
        (
            DType.INT32,
            '[1, {"x": 2}]',
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            DType.INT32,
            '[{"x": 1}, 2]',
            "Expecting object but got list at item 1 of input list",
        ),
        (
            DType.INT32,
            "[" + "[" * 40 + "1" + "]" * 40 + "]",
            "Encountered lists nested in more than 31 levels",
        ),
    ],
)
def test_a_bad_row_is_named(dtype, text, message):
    with pytest.raises(ServingError) as refused:
        rows(text, x=dtype)
    assert (refused.value.code, refused.value.message) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[[1]]",
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        (
            '[{"a": 1, "b": 2}, {"a": 1}]',
            "Failed to process element: 1 of 'instances' list. JSON object: "
            '{\n    "a": 1\n} keys must be equal to: a,b',
        ),
        (
            '[{"a": 1, "c": 2}]',
            "Failed to process element: 0 key: c of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: c",
        ),
        (
            '[{"a": 1, "b": [2]}, {"a": 1, "b": [2, 3]}]',
            "Failed to process element: 1 key: b of 'instances' list. "
            "Error: INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2",
        ),
    ],
)
def test_a_bad_row_of_several_inputs_is_named(text, message):
    with pytest.raises(ServingError) as refused:
        rows(text, b=DType.INT32, a=DType.INT32)
    assert (refused.value.code, refused.value.message) == (Code.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("text", "shape"), [("1", ()), ("[1, 2]", (2,)), ('{"x": [[1], [2]]}', (2, 1)), ("[]", (0,))]
)
def test_columns_keep_their_shape(text, shape):
    assert columns(text, x=DType.INT32)["x"].shape == shape


def test_columns_of_several_inputs_come_by_name_and_more_are_ignored():
    result = columns('{"a": [1, 2], "b": {"b64": "aGk="}, "c": {}}', a=DType.INT8, b=DType.STRING)
    assert result["a"].tolist() == [1, 2]
    assert result["b"].item() == b"hi"
    assert result.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "dtypes", "code", "message"),
    [
        (
            "[1]",
            {"a": DType.INT32, "b": DType.INT32},
            Code.INVALID_ARGUMENT,
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        (
            '{"a": 1}',
            {"a": DType.INT32, "b": DType.INT32},
            Code.INVALID_ARGUMENT,
            "Missing named input: b in 'inputs' object.",
        ),
        (
            "[[1, 2], [3]]",
            {"a": DType.INT32},
            Code.INVALID_ARGUMENT,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            "[0.5]",
            {"a": DType.BFLOAT16},
            Code.UNIMPLEMENTED,
            "Conversion of JSON Value: 0.5 to type: bfloat16",
        ),
        (
            "[0]",
            {"a": DType.UINT16},
            Code.UNIMPLEMENTED,
            "Conversion of JSON Value: 0 to type: uint16",
        ),
    ],
)
def test_bad_columns_are_explained(text, dtypes, code, message):
    with pytest.raises(ServingError) as refused:
        columns(text, **dtypes)
    assert (refused.value.code, refused.value.message) == (code, message)


SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)
NUMERIC = [
    DType.FLOAT,
    DType.DOUBLE,
    DType.INT8,
    DType.INT16,
    DType.INT32,
    DType.INT64,
    DType.UINT8,
    DType.UINT32,
    DType.UINT64,
    DType.BOOL,
]


@given(st.data())
def test_arrays_of_every_number_come_back_from_their_json(data):
    dtype = data.draw(st.sampled_from(NUMERIC))
    array = data.draw(arrays.arrays(numpy_dtype(dtype), SHAPES))
    text = json.dumps(array.tolist())
    for result in (rows(text, x=dtype), columns(text, x=dtype)):
        assert result["x"].dtype == array.dtype
        np.testing.assert_array_equal(result["x"], array)


@given(arrays.arrays(object, SHAPES, elements=st.binary(max_size=5)))
def test_bytes_come_back_from_base64(array):
    def encoded(value):
        if isinstance(value, list):
            return [encoded(item) for item in value]
        return {"b64": base64.b64encode(value).decode()}

    result = rows(json.dumps(encoded(array.tolist())), x=DType.STRING)
    np.testing.assert_array_equal(result["x"], array)
