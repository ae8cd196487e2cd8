"""Element types keep TensorFlow's numbers and names, and map to numpy both ways."""

import numpy as np
import pytest
import tensorflow as tf

from serving.core.dtypes import DType, dtype_of, numpy_dtype
from serving.core.errors import InvalidArgument

WITHOUT_ELEMENTS = (DType.INVALID, DType.RESOURCE, DType.VARIANT)


@pytest.mark.parametrize("dtype", [dtype for dtype in DType if dtype is not DType.INVALID])
def test_numbers_and_names_are_tensorflow_s(dtype: DType) -> None:
    assert tf.dtypes.as_dtype(dtype.value).name == {
        "float": "float32",
        "double": "float64",
        "half": "float16",
    }.get(dtype.label, dtype.label)


@pytest.mark.parametrize("dtype", [d for d in DType if d not in WITHOUT_ELEMENTS])
def test_numpy_types_are_those_that_tensorflow_feeds(dtype: DType) -> None:
    assert numpy_dtype(dtype) == np.dtype(tf.dtypes.as_dtype(dtype.value).as_numpy_dtype)
    assert dtype_of(np.zeros(1, numpy_dtype(dtype))) is dtype


def test_numpy_s_own_strings_are_strings() -> None:
    assert dtype_of(np.array(["a"])) is DType.STRING
    assert dtype_of(np.array([b"a"])) is DType.STRING


def test_what_no_tensor_can_hold_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="datetime64"):
        dtype_of(np.zeros(1, "datetime64[s]"))
    with pytest.raises(InvalidArgument, match="resource"):
        numpy_dtype(DType.RESOURCE)
