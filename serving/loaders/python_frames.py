"""What the server and the process of a Python model say to each other: plain bytes.

A frame is the length of its header, the header as JSON, and the bytes of its arrays. Nothing in it
is run or made into objects of a type that the sender chooses, so neither end has to trust it.
Imports numpy alone: the interpreter of a model may have no more.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from typing import TypeAlias  # which Python 3.8 has not

_LENGTH = struct.Struct("<I")
_MOST_HEADER_BYTES = 1 << 20
_MOST_BYTES = 2**31  # of all arrays; a gRPC message has fewer
_STRING = "string"
_STRING_LENGTH = np.dtype("<u4")
_NUMPY_NAMES = frozenset(
    f"{kind}{bits}" for kind in ("int", "uint", "float", "complex") for bits in (8, 16, 32, 64, 128)
) - {"int128", "uint128", "float8", "float128", "complex8", "complex16", "complex32"}
_ML_NAMES = frozenset({"bfloat16", "float8_e5m2", "float8_e4m3fn"})


class MalformedFrame(Exception):
    """What was received is no frame."""


class Frame(NamedTuple):
    """Values that JSON has, and arrays; strings are objects that hold ``bytes``."""

    fields: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


Parts: TypeAlias = "Sequence[memoryview | bytes]"
"""What a frame is sent as: bytes of several places in memory, one after the other."""


def encoded(frame: Frame) -> Parts:
    """A frame as it is sent; numbers are not copied.

    Raises TypeError, naming the array, for one that holds neither numbers nor strings that can be
    written in UTF-8, and for arrays that are too large for an answer.
    """
    tensors: list[Sequence[Any]] = []
    contents: list[memoryview | bytes] = []
    total = 0
    for name, array in frame.arrays.items():
        try:
            dtype, parts = _encoded(array)
        except (TypeError, UnicodeError) as error:
            raise TypeError(f"'{name}' {error}") from error
        size = sum(map(len, parts))
        tensors.append([name, dtype, array.shape, size])
        contents += parts
        total += size
        if total > _MOST_BYTES:
            raise TypeError(f"'{name}' makes more than {_MOST_BYTES} bytes")
    header = json.dumps({"fields": frame.fields, "tensors": tensors}).encode()
    return [_LENGTH.pack(len(header)) + header, *contents]


def send(connection: socket.socket, parts: Parts, deadline: float | None = None) -> None:
    """Send an encoded frame. ``deadline`` is a point on the monotonic clock.

    Raises TimeoutError when it has passed, OSError where nobody reads.
    """
    for part in parts:
        _set_timeout(connection, deadline)
        connection.sendall(part)


def receive(connection: socket.socket, deadline: float | None = None) -> Frame:
    """The next frame; waits for it.

    Raises EOFError when the other end is gone, MalformedFrame for anything else than a frame, and
    TimeoutError as above; ModuleNotFoundError where a type needs ``ml_dtypes`` and there is none,
    once all of the frame is read.
    """
    (length,) = _LENGTH.unpack(_bytes(connection, _LENGTH.size, deadline).tobytes())
    if length > _MOST_HEADER_BYTES:
        raise MalformedFrame(f"a header of {length} bytes")
    fields, tensors = _header(_bytes(connection, length, deadline))
    contents = [_bytes(connection, size, deadline) for *_, size in tensors]
    arrays = {
        name: _decoded(dtype, shape, contents[index])
        for index, (name, dtype, shape, _) in enumerate(tensors)
    }
    return Frame(fields, arrays)


def _encoded(array: np.ndarray) -> tuple[str, Parts]:
    """The name of its type, and the bytes of its elements."""
    if array.dtype.kind in "OSU":
        values = [_string(value) for value in array.flat]
        lengths = np.fromiter(map(len, values), _STRING_LENGTH, len(values))
        return _STRING, [lengths.tobytes(), b"".join(values)]
    name = array.dtype.name
    if name not in _NUMPY_NAMES | _ML_NAMES | {"bool"}:
        raise TypeError(f"holds {name}, which is no type of tensors")
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return name, [native.reshape(-1).view(np.uint8).data]


def _string(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TypeError(f"holds {type(value).__name__}, which is no type of tensors")


def _header(content: np.ndarray) -> tuple[Mapping[str, Any], Sequence[Sequence[Any]]]:
    try:
        header = json.loads(content.tobytes())
        fields, tensors = header["fields"], header["tensors"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedFrame("a header that is none") from error
    if not isinstance(fields, dict) or not isinstance(tensors, list):
        raise MalformedFrame("a header that is none")
    for each in tensors:
        if not isinstance(each, list) or len(each) != 4 or not _is_tensor(*each):
            raise MalformedFrame("an array that is none")
    if sum(size for *_, size in tensors) > _MOST_BYTES:
        raise MalformedFrame(f"arrays of more than {_MOST_BYTES} bytes")
    return fields, tensors


def _is_tensor(name: Any, dtype: Any, shape: Any, size: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(dtype, str)
        and isinstance(shape, list)
        and all(type(number) is int and 0 <= number <= _MOST_BYTES for number in (*shape, size))
    )


def _decoded(dtype: str, shape: Sequence[int], content: np.ndarray) -> np.ndarray:
    try:
        if dtype == _STRING:
            elements = _strings(math.prod(shape), content)
        elif dtype == "bool":
            elements = content != 0  # other bytes than 0 and 1 are no bool of numpy's
        else:
            elements = content.view(_numpy_type(dtype))
        return elements.reshape(shape)
    except ValueError as error:
        raise MalformedFrame("an array whose size is not its shape's") from error


def _strings(count: int, content: np.ndarray) -> np.ndarray:
    end = count * _STRING_LENGTH.itemsize
    lengths = content[:end].view(_STRING_LENGTH).tolist()
    if len(lengths) != count or sum(lengths) != len(content) - end:
        raise MalformedFrame("strings whose lengths are not theirs")
    values = np.empty(count, np.object_)
    whole = content.tobytes()
    for index, length in enumerate(lengths):
        values[index] = whole[end : end + length]
        end += length
    return values


def _numpy_type(name: str) -> np.dtype:
    if name in _NUMPY_NAMES:
        return np.dtype(name)
    if name not in _ML_NAMES:
        raise MalformedFrame(f"an array of type {name}")
    import ml_dtypes  # noqa: PLC0415  # numpy has no such types, and few models need them

    kind: type[np.generic] = getattr(ml_dtypes, name)
    return np.dtype(kind)


def _bytes(connection: socket.socket, count: int, deadline: float | None) -> np.ndarray:
    content = np.empty(count, np.uint8)
    left = content.data
    while left:
        _set_timeout(connection, deadline)
        received = connection.recv_into(left)
        if not received:
            raise EOFError
        left = left[received:]
    return content


def _set_timeout(connection: socket.socket, deadline: float | None) -> None:
    if deadline is not None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
