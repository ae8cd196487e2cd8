"""PredictResponses, put together from parts: what the message classes read is what was meant."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from predict_bytes import VALUE_TYPES
from tensorflow_serving.apis import predict_pb2

from serving.apis.tensorflow_serving.predict_response import PredictResponseWriter
from serving.apis.tensorflow_serving.tensor_codec import decode_tensor
from serving.apis.tensorflow_serving.typed_fields import TYPED_FIELDS
from serving.core.dtypes import DType, dtype_of, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.servable_id import ServableId
from serving.inference.predict import PredictResult

every_type = pytest.mark.parametrize("dtype", VALUE_TYPES, ids=lambda dtype: dtype.label)
either_field = pytest.mark.parametrize("tensor_content", [False, True])


def result(**outputs) -> PredictResult:
    return PredictResult(ServableId("m", 300), "serving_default", outputs)


def sample(dtype: DType, shape, low: int = -100) -> np.ndarray:
    elements = numpy_dtype(dtype)
    numbers = np.arange(int(np.prod(shape))) % 200
    if dtype is DType.STRING:
        values = np.array([b"%d\xff" % number for number in numbers], np.object_)
    elif elements.names:
        values = numbers.astype(elements[0]).view(elements)
    else:
        signed = numbers + low if elements.kind in "if" else numbers
        values = signed.astype(elements)
    return values.reshape(shape)


def check_written(writer: PredictResponseWriter, tensor_content: bool, **outputs) -> None:
    """Twice, as the second time parts of it are prepared."""
    for _ in range(2):
        data = writer.write(result(**outputs))
        response = predict_pb2.PredictResponse.FromString(data)
        assert sorted(response.SerializeToString()) == sorted(data)
        assert response.model_spec.name == "m"
        assert response.model_spec.version.value == 300
        assert response.model_spec.signature_name == "serving_default"
        assert set(response.outputs) == set(outputs)
        for alias, array in outputs.items():
            check_tensor(response.outputs[alias], array, tensor_content)


def check_tensor(proto, array, tensor_content: bool) -> None:
    dtype = dtype_of(array)
    as_content = tensor_content and dtype is not DType.STRING
    assert not array.size or bool(proto.tensor_content) == as_content
    assert not array.size or bool(getattr(proto, TYPED_FIELDS[dtype])) != as_content
    decoded = decode_tensor(proto)
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
    assert decoded.tolist() == array.tolist()
    if not array.dtype.names:  # make_ndarray cannot read quantized types
        assert tf.make_ndarray(proto).tolist() == array.tolist()


@every_type
@either_field
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (70, 2), (3000, 2)])
def test_every_output_is_read_back_by_the_message_classes(dtype, tensor_content, shape):
    """Few values and many, which are written in different ways."""
    writer = PredictResponseWriter(tensor_content=tensor_content)
    check_written(writer, tensor_content, y=sample(dtype, shape))


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT64, DType.UINT64, DType.HALF])
@pytest.mark.parametrize("low", [0, -100, 50])
def test_integers_of_every_length_are_written(dtype, low):
    writer = PredictResponseWriter()
    check_written(writer, False, y=sample(dtype, (100,), low), z=sample(dtype, (9,), low))


@either_field
def test_outputs_that_differ_in_one_respect_are_told_apart(tensor_content):
    """Alias, element type or shape: each has a head of its own."""
    writer = PredictResponseWriter(tensor_content=tensor_content)
    for alias in ("y", "é"):
        for dtype in (np.float32, np.float64, np.complex64, np.int32):
            for shape in ((6,), (6, 1), (2, 3)):
                array = np.arange(6).astype(dtype).reshape(shape)
                check_written(writer, tensor_content, **{alias: array, "n": array})


def test_arrays_that_are_not_contiguous_are_written_in_row_order():
    for rows in (3, 3000):
        array = np.arange(2 * rows, dtype=np.float32).reshape(2, rows).T
        check_written(PredictResponseWriter(), False, y=array)


def test_versions_and_signatures_are_told_apart():
    writer = PredictResponseWriter()
    for version, name in ((1, "a"), (2, "a"), (2, "b"), (1, "a")):
        data = writer.write(PredictResult(ServableId("m", version), name, {}))
        spec = predict_pb2.PredictResponse.FromString(data).model_spec
        assert (spec.version.value, spec.signature_name) == (version, name)


def test_arrays_without_a_tensor_type_are_refused():
    for array in (np.array(["2020-01-01"], "M8[D]"), np.arange(3, dtype=">f4")):
        with pytest.raises(InvalidArgument, match="no tensor type for numpy type"):
            PredictResponseWriter().write(result(y=array))


def test_what_is_kept_is_bounded():
    writer = PredictResponseWriter()
    for number in range(3000):
        outputs = {"y": np.zeros(number, np.float32)}
        writer.write(PredictResult(ServableId("m", number + 1), "s", outputs))
    assert len(writer._heads) <= 1024
    assert len(writer._model_specs) <= 1024
