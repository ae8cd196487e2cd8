"""UBJSON as XGBoost writes it: arrays of numpy with one type for all elements, others without."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

_TYPES = {"f4": b"d", "u1": b"U", "i4": b"l", "i8": b"L"}
"""UBJSON's marker, by numpy's kind and size of the elements."""


def encoded(value: object) -> bytes:
    """The form of texts, numbers, numpy's arrays, and mappings and sequences of these.

    Floats are written in 32 bits, whole numbers in 64. Bytes are what was encoded before, so that
    a large document need not be whole in memory. Raises ValueError for numbers that need more, for
    texts that UTF-8 has no bytes for, and for anything else.
    """
    return b"".join(_pieces(value))


def _pieces(value: object) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, str):
        yield b"S" + _text(value)
    elif isinstance(value, int):
        yield b"L" + _number(">q", value)
    elif isinstance(value, float):
        yield b"d" + _number(">f", value)
    elif isinstance(value, np.ndarray):
        kind = value.dtype.str[1:]
        yield b"[$" + _TYPES[kind] + b"#" + _size(value) + value.astype(f">{kind}").tobytes()
    elif isinstance(value, Mapping):
        yield b"{"
        for key, member in value.items():
            yield _text(key)
            yield from _pieces(member)
        yield b"}"
    elif isinstance(value, Sequence):
        yield b"[#" + _size(value)
        for member in value:
            yield from _pieces(member)
    else:
        raise ValueError(f"no UBJSON for {type(value)}")


def _number(form: str, value: float) -> bytes:
    try:
        return struct.pack(form, value)
    except (struct.error, OverflowError):
        raise ValueError("a number is too large") from None


def _text(value: str) -> bytes:
    content = value.encode()
    return _size(content) + content


def _size(value: Sequence[object] | np.ndarray) -> bytes:
    return b"L" + struct.pack(">q", len(value))
