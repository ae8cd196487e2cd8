"""How deep a JSON document goes is told without reading it as one."""

from __future__ import annotations

import pytest

from serving.loaders.xgboost_json import is_shallow


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 64 + b"]" * 64,
        b"[[], {}, " * 60,
        b"[" + b"[],{}," * 1000,
        b'["' + b"[" * 1000 + b'", {"{{{": 1}]',
        b'["' + b'\\"[' * 1000 + b'"]',
        b'{"' + b"[" * 1000,
        b"",
    ],
)
def test_brackets_in_texts_and_side_by_side_are_no_levels(content: bytes):
    assert is_shallow(content)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 65,
        b'{"a":' * 65,
        b'["\\\\",' * 65,
        b'["a",' * 65,
        b"]" * 1000 + b"[" * 65,
    ],
)
def test_more_levels_than_any_model_has_are_too_many(content: bytes):
    assert not is_shallow(content)


def test_no_content_takes_longer_than_its_length():
    """Texts that do not end, one from each quote on, would be read again and again."""
    assert is_shallow(b'"' + b'\\"' * 1_000_000)
