"""A UBJSON document that is cut anywhere is known not to be whole."""

from __future__ import annotations

import struct

import pytest

from serving.loaders.xgboost_ubjson import is_whole


def text(value: bytes) -> bytes:
    return b"L" + struct.pack(">q", len(value)) + value


DOCUMENT = (
    b"{"
    + text(b"typed")
    + b"[$d#L"
    + struct.pack(">qff", 2, 1.5, 2.5)
    + text(b"counted")
    + b"[#U\x02i\x05T"
    + text(b"closed")
    + b"[l\x00\x00\x00\x07S"
    + text(b"word")
    + b"]"
    + text(b"object")
    + b"{#i\x01"
    + text(b"key")
    + b"Z"
    + b"}"
)


def test_a_whole_document_is_whole_also_with_something_behind_it():
    assert is_whole(DOCUMENT)
    assert is_whole(DOCUMENT + b"\n")


@pytest.mark.parametrize("end", range(len(DOCUMENT)))
def test_a_document_that_is_cut_is_not(end: int):
    assert not is_whole(DOCUMENT[:end])


@pytest.mark.parametrize(
    "content",
    [
        b"?",
        b"{" + b"L" + struct.pack(">q", -1) + b"}",
        b"[$d#L" + struct.pack(">q", 1 << 60),
        b"[#L" + struct.pack(">q", 1 << 60),
        b"[" * 1000,
    ],
)
def test_what_can_not_be_right_is_not_whole(content: bytes):
    assert not is_whole(content)
