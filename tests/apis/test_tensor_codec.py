"""TensorProto and numpy: read as TensorFlow's C++ reads, written so that clients can read."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.apis.tensorflow_serving.tensor_codec import TensorMap, decode_tensor, encode_tensor
from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import InvalidArgument

quick = settings(max_examples=40, database=None)
WITHOUT_VALUES = (DType.INVALID, DType.RESOURCE, DType.VARIANT)
VALUE_TYPES = [dtype for dtype in DType if dtype not in WITHOUT_VALUES]
every_type = pytest.mark.parametrize("dtype", VALUE_TYPES, ids=lambda dtype: dtype.label)
shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)

INT32 = st.integers(-(2**31), 2**31 - 1)
FIELDS = {
    "float_val": ("FLOAT", st.floats(width=32)),
    "double_val": ("DOUBLE", st.floats()),
    "scomplex_val": ("COMPLEX64", st.floats(width=32)),
    "dcomplex_val": ("COMPLEX128", st.floats()),
    "string_val": ("STRING", st.binary(max_size=5)),
    "int64_val": ("INT64", st.integers(-(2**63), 2**63 - 1)),
    "bool_val": ("BOOL", st.booleans()),
    "uint32_val": ("UINT32", st.integers(0, 2**32 - 1)),
    "uint64_val": ("UINT64", st.integers(0, 2**64 - 1)),
    "half_val": ("HALF BFLOAT16", INT32),
    "int_val": ("INT32 UINT8 INT16 INT8 UINT16 QINT8 QUINT8 QINT16 QUINT16 QINT32", INT32),
}
FIELD_OF = {DType[label]: name for name, (labels, _) in FIELDS.items() for label in labels.split()}


def typed_protos(dtype: DType) -> st.SearchStrategy[tensor_pb2.TensorProto]:
    """Protos with any number of values in the typed field, whatever the shape."""
    if dtype.label.startswith("float8"):
        return st.builds(proto_of, st.just(dtype), shapes, float8_val=st.binary(max_size=40))
    name = FIELD_OF[dtype]
    values = st.lists(FIELDS[name][1], max_size=40)
    return st.builds(proto_of, st.just(dtype), shapes, **{name: values})


def proto_of(dtype: DType | int, shape=(), **fields) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=int(dtype), **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def read_by_tensorflow(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """What Tensor::FromProto makes of it; raises InvalidArgumentError where that refuses."""
    tensor = tf.io.parse_tensor(proto.SerializeToString(), proto.dtype)
    return np.asarray(tensor.numpy(), tensor.dtype.as_numpy_dtype)


def check_same(actual: np.ndarray, expected: np.ndarray) -> None:
    """Equal shapes and equal bits; NaNs count by their bits."""
    assert actual.shape == expected.shape
    if expected.dtype == np.object_:
        assert actual.tolist() == expected.tolist()
    else:
        assert actual.tobytes() == expected.tobytes()


@every_type
@quick
@given(data=st.data())
def test_typed_fields_are_read_as_tensorflow_reads_them(dtype, data):
    """Too few values, too many, none, values that do not fit: all as in C++."""
    proto = data.draw(typed_protos(dtype))
    decoded = decode_tensor(proto)
    assert decoded.dtype == numpy_dtype(dtype)
    check_same(decoded, read_by_tensorflow(proto))


@every_type
@quick
@given(data=st.data())
def test_tensor_content_is_read_as_tensorflow_reads_it(dtype, data):
    """Including the refusal of content that is too long, too short or no bool."""
    shape = data.draw(shapes)
    size = int(np.prod(shape)) * numpy_dtype(dtype).itemsize
    limits = st.just(size) if dtype is not DType.STRING else st.integers(0, 8)
    length = data.draw(st.one_of(limits, st.integers(0, 9)))
    top = 1 if dtype is DType.BOOL and data.draw(st.booleans()) else 3
    content = bytes(data.draw(st.lists(st.integers(0, top), min_size=length, max_size=length)))
    proto = proto_of(dtype, shape, tensor_content=content)
    try:
        expected = read_by_tensorflow(proto)
    except tf.errors.InvalidArgumentError:
        with pytest.raises(InvalidArgument):
            decode_tensor(proto)
    else:
        check_same(decode_tensor(proto), expected)


def test_strings_are_split_from_tensor_content():
    lengths = bytes([0, 0x80 | 2, 1, 3])
    proto = proto_of(DType.STRING, [3], tensor_content=lengths + b"x" * 130 + b"abc")
    assert decode_tensor(proto).tolist() == [b"", b"x" * 130, b"abc"]


@pytest.mark.parametrize("content", [b"\x01", b"\x80\x80", b"\x01\x01ab!", b"\xff" * 5 + b"\x01"])
def test_strings_that_do_not_fit_their_lengths_are_refused(content):
    with pytest.raises(InvalidArgument):
        decode_tensor(proto_of(DType.STRING, [2], tensor_content=content))


@every_type
@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_both_fields_are_written_as_tensorflow_reads_them(dtype, count):
    array = sample(dtype, count)
    for as_content in (False, True):
        proto = tensor_pb2.TensorProto()
        encode_tensor(array, proto, as_content=as_content)
        assert proto.dtype == dtype
        check_same(read_by_tensorflow(proto), array)
        check_same(decode_tensor(proto), array)
        if not array.dtype.names:  # make_ndarray cannot read quantized types
            check_same(tf.make_ndarray(proto), array)


def sample(dtype: DType, count: int) -> np.ndarray:
    elements = numpy_dtype(dtype)
    if dtype is DType.STRING:
        return np.array([b"%d\xff" % index for index in range(count)], np.object_)
    numbers = np.arange(count) - (1 if elements.kind in "if" else 0)
    if elements.names:
        return numbers.astype(elements[0]).view(elements)
    return numbers.astype(elements)


@quick
@given(array=npst.arrays(npst.floating_dtypes(endianness="<", sizes=(32, 64)), shapes))
def test_what_is_written_equals_what_make_tensor_proto_says(array):
    proto = tensor_pb2.TensorProto()
    encode_tensor(array, proto)
    check_same(tf.make_ndarray(tf.make_tensor_proto(array)), tf.make_ndarray(proto))


def test_values_are_in_the_fields_where_clients_look():
    proto = tensor_pb2.TensorProto()
    encode_tensor(np.float32([[1, 2]]), proto)
    assert proto.float_val == [1, 2]
    assert proto.tensor_content == b""
    assert [dim.size for dim in proto.tensor_shape.dim] == [1, 2]


def test_strings_stay_in_their_field_when_content_is_asked_for():
    proto = tensor_pb2.TensorProto()
    encode_tensor(np.array([b"a"], np.object_), proto, as_content=True)
    assert (list(proto.string_val), proto.tensor_content) == ([b"a"], b"")


@pytest.mark.parametrize("array", [np.array(["é"]), np.array([b"\xc3\xa9"]), np.array(["é"], "O")])
def test_every_kind_of_text_array_is_written_as_bytes(array):
    proto = tensor_pb2.TensorProto()
    encode_tensor(array, proto)
    assert list(proto.string_val) == ["é".encode()]


def test_arrays_that_are_not_contiguous_are_written_in_row_order():
    proto = tensor_pb2.TensorProto()
    encode_tensor(np.arange(6, dtype=np.float32).reshape(2, 3).T, proto)
    assert proto.float_val == [0, 3, 1, 4, 2, 5]


def test_arrays_without_a_tensor_type_are_refused():
    with pytest.raises(InvalidArgument, match="datetime64"):
        encode_tensor(np.array(["2020-01-01"], "M8[D]"), tensor_pb2.TensorProto())


@pytest.mark.parametrize(
    "proto",
    [
        proto_of(DType.FLOAT, [2**40], float_val=[1]),
        proto_of(DType.FLOAT, [2**40, 2**40], float_val=[1]),
        proto_of(DType.FLOAT, [2**62, 2**62, 0], float_val=[1]),
        proto_of(DType.FLOAT, [2**40]),
        proto_of(DType.STRING, [2**40], string_val=[b"a"]),
        proto_of(DType.STRING, [2**40], tensor_content=b"\x00"),
        proto_of(DType.FLOAT, [2**40], tensor_content=b"\x00"),
    ],
)
def test_huge_shapes_without_the_values_are_refused_and_not_allocated(proto):
    with pytest.raises(InvalidArgument):
        decode_tensor(proto)


@pytest.mark.parametrize(
    "proto",
    [
        proto_of(DType.FLOAT, [-1], float_val=[1]),
        proto_of(DType.FLOAT, [0, -1]),
        proto_of(DType.FLOAT, [1] * 65, float_val=[1]),
        proto_of(0, [1], float_val=[1]),
        proto_of(DType.RESOURCE, [1]),
        proto_of(DType.VARIANT, [0]),
        proto_of(101, [1], float_val=[1]),
        proto_of(999, [1], float_val=[1]),
    ],
)
def test_shapes_and_types_that_hold_no_values_are_refused(proto):
    with pytest.raises(InvalidArgument):
        decode_tensor(proto)


def test_half_values_are_bit_patterns():
    assert decode_tensor(proto_of(DType.HALF, [2], half_val=[0x3C00])).tolist() == [1, 1]
    bfloat = decode_tensor(proto_of(DType.BFLOAT16, [1], half_val=[0x3F80]))
    assert bfloat == np.array([1], ml_dtypes.bfloat16)


class TestTensorMap:
    def test_looks_like_a_mapping_of_arrays(self):
        tensors = TensorMap({"x": proto_of(DType.FLOAT, [1], float_val=[2])})
        assert (list(tensors), len(tensors), "x" in tensors) == (["x"], 1, True)
        assert tensors["x"].tolist() == [2]

    def test_an_absent_alias_is_absent_and_stays_so(self):
        message = predict_pb2.PredictRequest()
        with pytest.raises(KeyError):
            TensorMap(message.inputs)["x"]
        assert len(message.inputs) == 0

    def test_an_unreadable_tensor_is_named(self):
        tensors = TensorMap({"x": proto_of(DType.FLOAT, [-1])})
        with pytest.raises(InvalidArgument) as raised:
            tensors["x"]
        assert raised.value.message == "tensor parsing error: x"
