"""Response bodies, byte for byte."""

from __future__ import annotations

import base64
import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.apis.tensorflow_serving.rest import json_writer
from serving.core.errors import Code, ServingError

STRINGS = np.array([b"hello", '\u00e9\n"'.encode()], object)


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        (
            {"y": np.float32([2.5, 3.0, 4.5])},
            '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}',
        ),
        (
            {"y": np.int32([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])},
            '{\n    "predictions": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]\n    ]\n}',
        ),
        (
            {"b": np.float64([[1.0], [0.5]]), "a": np.array([True, False])},
            '{\n    "predictions": [\n'
            '        {\n            "a": true,\n            "b": [1.0]\n        },\n'
            '        {\n            "a": false,\n            "b": [0.5]\n        }\n'
            "    ]\n}",
        ),
        ({"y": STRINGS}, '{\n    "predictions": ["hello", "\u00e9\\n\\""\n    ]\n}'),
        (
            {"y_bytes": STRINGS},
            '{\n    "predictions": [{\n            "b64": "aGVsbG8="\n        }, '
            '{\n            "b64": "w6kKIg=="\n        }\n    ]\n}',
        ),
        (
            {"y_bytes": STRINGS[:1].reshape(1, 1), "z": np.uint8([7])},
            '{\n    "predictions": [\n        {\n'
            '            "y_bytes": [{\n                    "b64": "aGVsbG8="\n'
            '                }],\n            "z": 7\n        }\n    ]\n}',
        ),
        ({"y": np.zeros((0, 2), np.float32)}, '{\n    "predictions": []\n}'),
        (
            {"y": np.zeros((0, 2), np.float32), "z": np.zeros((0,), np.int64)},
            '{\n    "predictions": []\n}',
        ),
        ({"y": np.zeros((2, 0), np.float32)}, '{\n    "predictions": [[], []\n    ]\n}'),
    ],
)
def test_rows_stand_on_one_line(outputs, body):
    assert json_writer.predictions(outputs).decode() == body


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        ({"y": np.float32(2.5)}, '{\n    "outputs": 2.5\n}'),
        (
            {"y": np.int64([[1, 2]])},
            '{\n    "outputs": [\n        [\n            1,\n            2\n        ]\n    ]\n}',
        ),
        (
            {"b": np.int8([1]), "a": np.uint64(2**64 - 1)},
            '{\n    "outputs": {\n        "a": 18446744073709551615,\n'
            '        "b": [\n            1\n        ]\n    }\n}',
        ),
        (
            {"y_bytes": STRINGS[:1]},
            '{\n    "outputs": [\n        {\n            "b64": "aGVsbG8="\n        }\n    ]\n}',
        ),
        (
            {"y": np.zeros((2, 0), np.bool_)},
            '{\n    "outputs": [\n        [],\n        []\n    ]\n}',
        ),
    ],
)
def test_columns_have_a_line_for_each_element(outputs, body):
    assert json_writer.outputs(outputs).decode() == body


def test_strings_that_are_not_utf8_are_written_as_they_are():
    body = json_writer.outputs({"y": np.array(b"\xff\x00", object)})
    assert body == b'{\n    "outputs": "\xff\\u0000"\n}'


@pytest.mark.parametrize(
    ("write", "outputs", "message"),
    [
        (json_writer.predictions, {}, "Cannot convert empty tensor map to JSON"),
        (json_writer.outputs, {}, "Cannot convert empty tensor map to JSON"),
        (
            json_writer.predictions,
            {"y": np.float32(1)},
            "Tensor name: y has no shape information ",
        ),
        (
            json_writer.predictions,
            {"x": np.float32([1, 2]), "y": np.float32([1])},
            "Tensor name: y has inconsistent batch size: 1 expecting: 2",
        ),
        (
            json_writer.predictions,
            {"x": np.float32([]), "y": np.float32([1])},
            "Tensor name: y has inconsistent batch size: 1 expecting: 0",
        ),
        (
            json_writer.predictions,
            {"y": np.float16([1])},
            "Failed to write JSON value for tensor type: half",
        ),
        (
            json_writer.outputs,
            {"y": np.complex64(1)},
            "Failed to write JSON value for tensor type: complex64",
        ),
        (
            json_writer.outputs,
            {"y": np.array([1], ml_dtypes.bfloat16)},
            "Failed to write JSON value for tensor type: bfloat16",
        ),
        (
            json_writer.outputs,
            {"y": np.uint16([1])},
            "Failed to write JSON value for tensor type: uint16",
        ),
    ],
)
def test_outputs_that_json_cannot_carry_are_named(write, outputs, message):
    with pytest.raises(ServingError) as refused:
        write(outputs)
    assert (refused.value.code, refused.value.message) == (Code.INVALID_ARGUMENT, message)


def test_classifications_are_pairs_of_label_and_score():
    body = json_writer.classifications(
        np.array([[b"car", b"bus"], [b"car", b"bus"]], object),
        np.float32([[0.2, 0.7], [1, 0]]),
    )
    assert body.decode() == (
        '{\n    "results": [[["car", 0.2], ["bus", 0.7]], [["car", 1.0], ["bus", 0.0]]\n    ]\n}'
    )


def test_a_part_that_a_classification_lacks_is_empty_or_zero():
    only_scores = json_writer.classifications(None, np.float32([[0.5]]))
    only_labels = json_writer.classifications(np.array([[b"car"]], object), None)
    assert only_scores.decode() == '{\n    "results": [[["", 0.5]]\n    ]\n}'
    assert only_labels.decode() == '{\n    "results": [[["car", 0.0]]\n    ]\n}'


def test_regressions_stand_on_one_line():
    body = json_writer.regressions(np.float32([0.2, np.inf, 1]))
    assert body.decode() == '{\n    "results": [0.2, Infinity, 1.0]\n}'


def test_errors_are_quoted():
    assert json_writer.error('no "x"\n').decode() == '{\n    "error": "no \\"x\\"\\n"\n}'


SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
KINDS = [np.float32, np.float64, np.int8, np.int16, np.int32, np.int64]
KINDS += [np.uint8, np.uint32, np.uint64, np.bool_]


@given(st.data())
def test_arrays_of_every_type_come_back_from_what_is_written(data):
    array = data.draw(arrays.arrays(data.draw(st.sampled_from(KINDS)), SHAPES))
    rows = json.loads(json_writer.predictions({"y": array}))["predictions"]
    columns = json.loads(json_writer.outputs({"y": array}))["outputs"]
    objects = json.loads(json_writer.predictions({"y": array, "z": array}))["predictions"]
    for value in (rows, columns, [row["y"] for row in objects]):
        came_back = np.array(value, array.dtype).reshape(array.shape)
        np.testing.assert_array_equal(came_back, array)


@given(arrays.arrays(object, SHAPES, elements=st.binary(max_size=5)))
def test_bytes_come_back_from_what_is_written(array):
    def decoded(value):
        if isinstance(value, list):
            return [decoded(item) for item in value]
        return base64.b64decode(value["b64"])

    rows = json.loads(json_writer.predictions({"y_bytes": array}))["predictions"]
    assert decoded(rows) == array.tolist()
