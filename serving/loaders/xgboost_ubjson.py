"""Whether a UBJSON document is whole: XGBoost reads on behind the end of one that is not."""

from __future__ import annotations

import struct

from serving.loaders.xgboost_json import MOST_LEVELS

_SIZES = dict(zip(b"ZTFNiUCIldLD", (0, 0, 0, 0, 1, 1, 1, 2, 4, 4, 8, 8), strict=True))
"""Bytes of a value after its marker, by marker."""

_INTEGERS = dict(zip(b"iUIlL", (">b", ">B", ">h", ">i", ">q"), strict=True))
_ARRAY, _OBJECT, _TEXTS = ord("["), ord("{"), b"SH"


def is_whole(content: bytes) -> bool:
    """Whether the document ends within the content. Says nothing about what is in it."""
    try:
        return _value_end(content, content[0], 1, 0) <= len(content)
    except (IndexError, KeyError, ValueError, struct.error):
        return False


def _value_end(content: bytes, marker: int, at: int, level: int) -> int:
    """Where a value ends whose marker was read, and the rest of which begins at ``at``."""
    if level > MOST_LEVELS:
        raise ValueError("too many levels")
    if marker in (_ARRAY, _OBJECT):
        return _container_end(content, marker == _OBJECT, at, level)
    if marker in _TEXTS:
        return _text_end(content, at)
    return at + _SIZES[marker]


def _container_end(content: bytes, is_object: bool, at: int, level: int) -> int:
    """With ``$``, all members are of one type; with ``#``, they are counted and nothing closes."""
    kind = left = None
    if content[at] == ord("$"):
        kind, at = content[at + 1], at + 2
    if content[at] == ord("#"):
        left, at = _integer(content, at + 1)
        if not is_object and kind in _SIZES:
            return at + left * _SIZES[kind]
    closing = ord("}") if is_object else ord("]")
    while left if left is not None else content[at] != closing:
        left = None if left is None else left - 1
        at = _text_end(content, at) if is_object else at
        marker, at = (content[at], at + 1) if kind is None else (kind, at)
        at = _value_end(content, marker, at, level + 1)
    return at if left is not None else at + 1


def _text_end(content: bytes, at: int) -> int:
    length, at = _integer(content, at)
    return at + length


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """A length or count, marker first, and where it ends. Raises ValueError for a negative one."""
    code = _INTEGERS[content[at]]
    (value,) = struct.unpack_from(code, content, at + 1)
    if value < 0:
        raise ValueError("a negative size")
    return value, at + 1 + struct.calcsize(code)
