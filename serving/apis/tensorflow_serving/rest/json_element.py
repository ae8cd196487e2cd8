"""JSON values to the elements of a tensor: which ones a type takes, and bytes in base64."""

from __future__ import annotations

import binascii
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.apis.tensorflow_serving.rest.json_document import Json, JsonObject, quote, type_name
from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import InvalidArgument, Unimplemented


@dataclass(frozen=True, slots=True)
class _Elements:
    """Which JSON values an element type takes: Python types, and for integers a closed range."""

    types: frozenset[type]
    low: int = 0
    high: int = 0

    def takes(self, values: Sequence[Json]) -> bool:
        if not self.types.issuperset(map(type, values)):
            return False
        if self.low == self.high or not values:
            return True
        return self.low <= min(values) and max(values) <= self.high  # type: ignore[type-var, operator]  # all are ints


_INT32 = _Elements(frozenset({int}), -(2**31), 2**31 - 1)
_NUMBER = _Elements(frozenset({int, float}))
_TYPE_CODES = {DType.FLOAT: "f", DType.DOUBLE: "d"}
_ELEMENTS: Mapping[DType, _Elements] = {
    DType.FLOAT: _NUMBER,
    DType.DOUBLE: _NUMBER,
    DType.INT8: _INT32,
    DType.UINT8: _INT32,
    DType.INT16: _INT32,
    DType.INT32: _INT32,
    DType.INT64: _Elements(frozenset({int}), -(2**63), 2**63 - 1),
    DType.UINT32: _Elements(frozenset({int}), 0, 2**32 - 1),
    DType.UINT64: _Elements(frozenset({int}), 0, 2**64 - 1),
    DType.BOOL: _Elements(frozenset({bool})),
    DType.STRING: _Elements(frozenset({str, dict})),
}
"""The types that JSON can carry. The narrow integers take any 32-bit one and wrap around."""


def flat_array(values: Sequence[Json], dtype: DType) -> np.ndarray | None:
    """The values as a 1-D array; None when the type does not take one of them."""
    elements = _ELEMENTS.get(dtype)
    if values and (elements is None or not elements.takes(values)):
        return None
    if dtype is DType.STRING:
        strings = np.empty(len(values), np.object_)
        try:
            strings[:] = [
                string_bytes(value) if isinstance(value, str) else decode_base64_object(value)  # type: ignore[arg-type]  # strings and objects only
                for value in values
            ]
        except InvalidArgument:
            return None
        return strings
    if elements is _NUMBER:
        # What exceeds the type is infinite, without numpy's warning.
        return np.frombuffer(array(_TYPE_CODES[dtype], values), _TYPE_CODES[dtype])  # type: ignore[type-var]  # numbers only
    target = numpy_dtype(dtype)
    if elements is _INT32:
        return np.array(values, np.int64).astype(target)
    return np.array(values, target)


def check_element(value: Json, dtype: DType) -> None:
    """Raise why a type does not take a value that is no list.

    InvalidArgument, or Unimplemented for types that JSON cannot carry.
    """
    elements = _ELEMENTS.get(dtype)
    if isinstance(value, dict) and dtype is DType.STRING:
        decode_base64_object(value)
    elif elements is None and not isinstance(value, dict):
        raise Unimplemented(f"Conversion of JSON Value: {quote(value)} to type: {dtype.label}")
    elif flat_array([value], dtype) is None:
        raise InvalidArgument(
            f"JSON Value: {quote(value)} Type: {type_name(value)} "
            f"is not of expected type: {dtype.label}"
        )


def decode_base64_object(value: JsonObject) -> bytes:
    """The bytes of ``{"b64": "…"}``, in the standard or the URL-safe alphabet, padded or not.

    Raises InvalidArgument when the object is another one, or its text is not base64.
    """
    encoded = value.get("b64")
    if len(value) != 1 or not isinstance(encoded, str):
        raise InvalidArgument(f"JSON Value: {quote(value)} not formatted correctly for base64 data")
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        plain = "".join(encoded.split()).replace("-", "+").replace("_", "/")
    try:
        padding = "" if "=" in plain else "=" * (-len(plain) % 4)
        return binascii.a2b_base64(plain + padding, strict_mode=True)
    except ValueError:
        raise InvalidArgument("Unable to base64 decode") from None


def is_base64_object(value: Json) -> bool:
    """Whether the value stands for bytes: an object whose only key ``b64`` holds a string."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def string_bytes(value: str) -> bytes:
    """A JSON string as the bytes that the client sent."""
    return value.encode("utf-8", "surrogateescape")
