"""UBJSON as XGBoost writes it: arrays of numpy with one type for all elements, others without."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

_TYPES = {"f4": b"d", "u1": b"U", "i4": b"l", "i8": b"L"}
"""UBJSON's marker, by numpy's kind and size of the elements."""


def encoded(value: object) -> bytes:
    """The form of texts, numbers, numpy's arrays, and mappings and sequences of these.

    Floats are written in 32 bits, whole numbers in 64. Raises ValueError for numbers that need
    more, for texts that UTF-8 has no bytes for, and for anything else.
    """
    if isinstance(value, str):
        return b"S" + _text(value)
    if isinstance(value, int):
        return b"L" + _number(">q", value)
    if isinstance(value, float):
        return b"d" + _number(">f", value)
    if isinstance(value, np.ndarray):
        kind = value.dtype.str[1:]
        return b"[$" + _TYPES[kind] + b"#" + _size(value) + value.astype(f">{kind}").tobytes()
    if isinstance(value, Mapping):
        members = (_text(key) + encoded(member) for key, member in value.items())
        return b"{" + b"".join(members) + b"}"
    if isinstance(value, Sequence):
        return b"[#" + _size(value) + b"".join(map(encoded, value))
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
