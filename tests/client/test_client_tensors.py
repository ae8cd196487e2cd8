"""The client's tensors are TensorFlow's, both ways."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from model_server_client.generated.tensorflow_framework_pb2 import DataType
from model_server_client.generated.tensorflow_framework_pb2 import TensorProto as OwnTensorProto
from model_server_client.tensors import array_of, tensor_proto
from numpy.typing import ArrayLike
from tensorflow import make_ndarray, make_tensor_proto
from tensorflow.core.framework.tensor_pb2 import TensorProto

NUMBERS = (
    arrays.boolean_dtypes()
    | arrays.integer_dtypes()
    | arrays.unsigned_integer_dtypes()
    | arrays.floating_dtypes(sizes=(16, 32, 64))
    | arrays.complex_number_dtypes(sizes=(64, 128))
)
ARRAYS = NUMBERS.flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=4))
)


@given(ARRAYS)
def test_tensorflow_reads_what_the_client_writes(array: np.ndarray) -> None:
    message = TensorProto.FromString(tensor_proto("x", array).SerializeToString())
    read = make_ndarray(message)
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)


@given(ARRAYS)
def test_the_client_reads_what_tensorflow_writes(array: np.ndarray) -> None:
    """Small arrays element by element, equal last ones left out, and others as their memory."""
    native = array.astype(array.dtype.newbyteorder("="))
    message = OwnTensorProto.FromString(make_tensor_proto(native).SerializeToString())
    read = array_of(message)
    assert read.dtype == native.dtype
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", np.array(b"text", object)),
        ([b"a\0", b""], np.array([b"a\0", b""], object)),
        ([["ä", b"\xff"]], np.array([["ä".encode(), b"\xff"]], object)),
        (np.array(["long", "s"]), np.array([b"long", b"s"], object)),
        (np.array([b"12"]), np.array([b"12"], object)),
        (np.zeros((0, 2), object), np.zeros((0, 2), object)),
    ],
)
def test_strings_and_bytes_are_strings_for_tensorflow(
    value: ArrayLike, expected: np.ndarray
) -> None:
    own = tensor_proto("x", value)
    theirs = make_ndarray(TensorProto.FromString(own.SerializeToString()))
    for read in (array_of(own), theirs):
        assert read.shape == expected.shape
        assert read.tolist() == expected.tolist()


def test_bfloat16_is_read_and_written_where_ml_dtypes_is_there() -> None:
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    assert tensor_proto("x", array).dtype == DataType.DT_BFLOAT16
    np.testing.assert_array_equal(array_of(tensor_proto("x", array)), array)
    typed = OwnTensorProto.FromString(make_tensor_proto(array).SerializeToString())
    np.testing.assert_array_equal(array_of(typed), array)


def test_big_endian_arrays_travel_little_endian() -> None:
    array = np.array([1, 2], ">i4")
    np.testing.assert_array_equal(array_of(tensor_proto("x", array)), array)


@pytest.mark.parametrize("value", [[None], [object()], np.array(["2026-01-01"], "datetime64[D]")])
def test_elements_that_no_tensor_has_are_refused_with_the_inputs_name(value: ArrayLike) -> None:
    with pytest.raises(TypeError, match="input 'pixels' has"):
        tensor_proto("pixels", value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ({"dtype": DataType.DT_FLOAT, "float_val": [1, 2]}, "a tensor of 1 elements has 2"),
        ({"dtype": DataType.DT_QINT8}, "numpy has no type for elements of DT_QINT8"),
        ({"dtype": DataType.DT_FLOAT, "tensor_shape": {"unknown_rank": True}}, "has no shape"),
        ({"dtype": DataType.DT_FLOAT, "tensor_content": b"12"}, "buffer size"),
    ],
)
def test_a_message_that_is_no_array_is_a_value_error(text: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        array_of(OwnTensorProto(**text))
