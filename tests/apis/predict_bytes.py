"""PredictRequests as bytes: as clients write them, and as nobody should."""

from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.apis.tensorflow_serving.typed_fields import TYPED_FIELDS, tag_of
from serving.apis.tensorflow_serving.wire import varint
from serving.core.dtypes import DType, numpy_dtype

WITHOUT_VALUES = (DType.INVALID, DType.RESOURCE, DType.VARIANT)
VALUE_TYPES = [dtype for dtype in DType if dtype not in WITHOUT_VALUES]
_INT32 = st.integers(-(2**31), 2**31 - 1)
_VALUES = {
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "scomplex_val": st.floats(width=32),
    "dcomplex_val": st.floats(),
    "string_val": st.binary(max_size=5),
    "int64_val": st.one_of(st.integers(0, 200), st.integers(-(2**63), 2**63 - 1)),
    "bool_val": st.booleans(),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
    "half_val": st.one_of(st.integers(0, 2**16 - 1), _INT32),
    "int_val": st.one_of(st.integers(0, 200), _INT32),
}
_NAMES = st.sampled_from(["", "x", "m", "half_plus_two", "é", "serving_default"])
_DTYPES = st.one_of(st.sampled_from(VALUE_TYPES), st.sampled_from([DType.FLOAT, DType.INT64]))


@st.composite
def tensors(draw: st.DrawFn) -> tensor_pb2.TensorProto:
    """A tensor with as many values as its shape needs; sometimes with more, fewer or none."""
    dtype = draw(_DTYPES)
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    proto = tensor_pb2.TensorProto(dtype=int(dtype))
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    count = int(np.prod(shape)) if draw(st.integers(0, 7)) else draw(st.integers(0, 4))
    field = TYPED_FIELDS[dtype]
    size = count * numpy_dtype(dtype).itemsize
    if field == "float8_val":
        proto.float8_val = draw(st.binary(min_size=count, max_size=count))
    elif draw(st.integers(0, 3)) or dtype is DType.STRING:
        count *= 2 if "complex" in dtype.label else 1
        values = st.lists(_VALUES[field], min_size=count, max_size=count)
        getattr(proto, field).extend(draw(values))
    elif dtype is DType.BOOL and draw(st.integers(0, 3)):
        proto.tensor_content = bytes(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    else:
        proto.tensor_content = draw(st.binary(min_size=size, max_size=size))
    return proto


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request as the message classes write it."""
    message = predict_pb2.PredictRequest()
    spec = message.model_spec
    spec.name, spec.signature_name = draw(_NAMES), draw(_NAMES)
    choice = draw(st.integers(0, 3))
    if choice == 1:
        spec.version.value = draw(st.integers(-1, 300))
    elif choice == 2:
        spec.version_label = draw(_NAMES)
    for alias in draw(st.lists(_NAMES, max_size=2)):
        message.inputs[alias].CopyFrom(draw(tensors()))
    message.output_filter.extend(draw(st.lists(_NAMES, max_size=2)))
    encoded: bytes = message.SerializeToString()
    return encoded


def delimited(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def long_varint(number: int) -> bytes:
    """In one byte more than it takes."""
    short = varint(number)
    return short[:-1] + bytes([short[-1] | 0x80, 0])


_PIECES = [
    b"",
    b"\x08\x01",  # a number in field 1
    b"\x18\x07",  # in field 3: version_number, or the wrong type
    b"\x7a\x03abc",  # unknown bytes, field 15
    b"\xf8\x01\x05",  # an unknown number, field 31
    b"\x2b\x08\x01\x2c",  # an unknown group, field 5
    b"\x0b\x0c",
    b"\x2d\x00\x00\x80\x3f",  # float_val, unpacked
    b"\x2a\x04\x00\x00\x80\x3f",  # float_val, packed
    b"\x50\x05",  # int64_val, unpacked
    b"\x52\x02\x80\x01",
    b"\x22\x01\x01",  # tensor_content
    b"\x12\x00",
    b"\x12\x02\x18\x01",  # unknown rank
    b"\x12\x05\x12\x03\x0a\x01n",  # a dimension with a name
    b"\x0a\x00",
    b"\x0a\x02\xff\xfe",  # no UTF-8
    b"\x1a\x01y",
    b"\x42\x01a",
    b"\x00",
    b"\xff",
]
_ODDITIES = st.sampled_from(_PIECES)


@st.composite
def odd_tensors(draw: st.DrawFn) -> bytes:
    """A tensor's fields in pieces: in any order, repeated, with others between."""
    dtype = draw(_DTYPES)
    proto = draw(tensors())
    pieces = [
        b"\x08" + draw(st.sampled_from([varint, long_varint]))(dtype),
        proto.SerializeToString(),
        delimited(2, b"\x12\x02\x08\x01"),
        varint(tag_of(TYPED_FIELDS[dtype])) + b"\x01\x01",
    ]
    parts = draw(st.lists(st.one_of(st.sampled_from(pieces), _ODDITIES), max_size=4))
    return b"".join(parts)


@st.composite
def odd_requests(draw: st.DrawFn) -> bytes:
    """A request from parts that come in any order, are repeated, split, incomplete or unknown."""
    key = st.builds(lambda name: delimited(1, name.encode()), _NAMES)
    tensor = st.builds(tensor_pb2.TensorProto.SerializeToString, tensors())
    value = st.builds(delimited, st.just(2), st.one_of(tensor, odd_tensors()))
    entry = st.lists(st.one_of(key, value, value, _ODDITIES), max_size=3).map(b"".join)
    whole = st.builds(bytes.__add__, key, value)
    spec = st.lists(st.one_of(key, _ODDITIES), max_size=3).map(b"".join)
    part = st.one_of(
        st.builds(delimited, st.just(2), whole),
        st.builds(delimited, st.just(2), entry),
        st.builds(delimited, st.just(1), spec),
        st.builds(delimited, st.just(1), key),
        _ODDITIES,
    )
    return b"".join(draw(st.lists(part, max_size=5)))


def damaged(data: bytes, random: Random) -> bytes:
    """The same with some bytes changed, lost, inserted or repeated."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, len(changed))
        stop = start + random.randint(0, 8)
        match random.randrange(6):
            case 0:
                del changed[start:]
            case 1:
                del changed[start:stop]
            case 2:
                changed[start:start] = random.choice(_PIECES)
            case 3:
                changed[start:start] = changed[start:stop]
            case _ if start < len(changed):
                old = changed[start]
                new = random.choice(
                    [0, 1, 127, old + 1, old - 1, old ^ 0x80, random.randrange(256)]
                )
                changed[start] = new & 0xFF
    return bytes(changed)


anything = st.one_of(requests(), odd_requests(), st.binary(max_size=40))
