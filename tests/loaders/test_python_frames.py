"""Frames arrive as they were sent; what is no frame is refused before it costs anything."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from serving.loaders import python_frames
from serving.loaders.python_frames import Frame, MalformedFrame, encoded, receive, send

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def sent(ends: Ends, array: np.ndarray) -> np.ndarray:
    send(ends[0], encoded(Frame({"a": 1}, {"x": array})))
    frame = receive(ends[1])
    assert frame.fields == {"a": 1}
    return frame.arrays["x"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(3, np.int64),
        np.zeros((0, 4), np.uint8),
        np.array([True, False]),
        np.array([1 + 2j], np.complex64),
        np.array([1.5], np.float16),
        np.array([1.5], ml_dtypes.bfloat16),
        np.array([[b"a", b""], [b"\xff\x00", b"long" * 9]], np.object_),
        np.array([], np.object_),
    ],
    ids=lambda array: f"{array.dtype.name}{list(array.shape)}",
)
def test_an_array_arrives_with_its_type_shape_and_values(ends: Ends, array: np.ndarray):
    arrived = sent(ends, array)
    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    assert arrived.tolist() == array.tolist()


def test_text_and_numbers_in_another_byte_order_arrive_as_tensors_are(ends: Ends):
    assert sent(ends, np.array(["ü", "b"])).tolist() == ["ü".encode(), b"b"]
    assert sent(ends, np.array([b"a"])).tolist() == [b"a"]
    assert sent(ends, np.array([1, 2], ">i4")).tolist() == [1, 2]
    assert sent(ends, np.arange(6).reshape(2, 3).T).tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array(["\ud800"]),
        np.zeros(2, [("a", np.int8)]),
    ],
    ids=["object", "date", "surrogate", "record"],
)
def test_what_no_tensor_holds_is_not_sent(array: np.ndarray):
    with pytest.raises(TypeError, match="'x' "):
        encoded(Frame({}, {"x": array}))


def test_more_than_an_answer_may_have_is_not_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(python_frames, "_MOST_BYTES", 8)
    whole = np.zeros(2, np.float32)
    assert encoded(Frame({}, {"x": whole}))
    with pytest.raises(TypeError, match="'y' makes more than 8 bytes"):
        encoded(Frame({}, {"x": whole, "y": np.array([True])}))


@pytest.mark.parametrize(
    "tensor",
    [
        ["x", "float32", [2], 4],
        ["x", "float32", [-1], 4],
        ["x", "float32", [2**62], 4],
        ["x", "float32", [True], 4],
        ["x", "object", [1], 8],
        ["x", "string", [1], 8],
        ["x", "string", [9], 8],
        ["x", "float32", [1]],
        ["x", "float32", 1, 4],
        [1, "float32", [1], 4],
        ["x", "float32", [2**29], 2**31 + 4],
        "x",
    ],
    ids=str,
)
def test_an_array_that_is_none_is_refused(ends: Ends, tensor: object):
    header = json.dumps({"fields": {}, "tensors": [tensor]}).encode()
    ends[0].sendall(struct.pack("<I", len(header)) + header + b"\xff" * 8)
    with pytest.raises(MalformedFrame):
        receive(ends[1])


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<I", 2**31),
        struct.pack("<I", 3) + b"no!",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 100_000) + b"[" * 100_000,
    ],
    ids=["long", "no JSON", "no object", "deep"],
)
def test_a_header_that_is_none_is_refused(ends: Ends, content: bytes):
    ends[0].sendall(content)
    with pytest.raises(MalformedFrame):
        receive(ends[1])


def test_an_end_in_the_middle_of_a_frame_is_told(ends: Ends):
    ends[0].sendall(b"\x05\x00")
    ends[0].close()
    with pytest.raises(EOFError):
        receive(ends[1])


def test_nothing_is_waited_for_beyond_the_deadline(ends: Ends):
    with pytest.raises(TimeoutError):
        receive(ends[1], time.monotonic() + 0.01)
    with pytest.raises(TimeoutError):  # nobody reads
        send(ends[0], [b"a" * 10_000_000], time.monotonic() + 0.01)
