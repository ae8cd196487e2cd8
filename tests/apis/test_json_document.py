"""Request bodies are read as RapidJSON reads them, with its reasons and byte offsets."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.apis.tensorflow_serving.rest import json_document
from serving.apis.tensorflow_serving.rest.json_document import (
    quote,
    read_object,
    signature_name,
    type_name,
)
from serving.core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "The document is empty"),
        (b" \n\t", "The document is empty. at offset: 3"),
        (b"\xef\xbb\xbf", "The document is empty. at offset: 3"),
        (b"abc", "Invalid value. at offset: 0"),
        (b'{"a": }', "Invalid value. at offset: 6"),
        (b'{"a": [1,]}', "Invalid value. at offset: 9"),
        (b'{"a": +1}', "Invalid value. at offset: 6"),
        (b'{"a": "\xc3\xa9", "b": x}', "Invalid value. at offset: 17"),
        (b"{1: 2}", "Missing a name for object member. at offset: 1"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": [1] "b"', "Missing a comma or '}' after an object member. at offset: 10"),
        (b'{"]": [{"[": 1} 2]}', "Missing a comma or ']' after an array element. at offset: 16"),
        (b'{"a": [1', "Missing a comma or ']' after an array element. at offset: 8"),
        (b'{"a": "bc', "Missing a closing quotation mark in string. at offset: 9"),
        (b'{"a": "b\nc"}', "Invalid escape character in string. at offset: 8"),
        (b'{"a": "b\\x"}', "Invalid escape character in string. at offset: 8"),
        (b'{"a": "\\u12G4"}', "Incorrect hex digit after \\u escape in string. at offset: 7"),
        (b'{"a": "x\\ud800y"}', "The surrogate pair in string is invalid. at offset: 8"),
        (
            b'{"1": ' + b"9" * 5000 + b"}",
            "Number too big to be stored in double. at offset: 6",
        ),
        (
            b'{"1": [' + b"9" * 300 + b"," + b"9" * 4301 + b"]}",
            "Number too big to be stored in double. at offset: 308",
        ),
        (b'{"a": [1 NaN]}', "Missing a comma or ']' after an array element. at offset: 9"),
        (b'{"a": [1-NaN]}', "Missing a comma or ']' after an array element. at offset: 8"),
        (b'{"a": [Inf, -NaN, -Inf, x', "Invalid value. at offset: 24"),
        (b'{"a": [-NaN, Inf}', "Missing a comma or ']' after an array element. at offset: 16"),
        (b'{"a": [Infinit]}', "Invalid value. at offset: 14"),
        (
            b'{"\xc3\xa9": Inf, "b": "\\ud800"}',
            "The surrogate pair in string is invalid. at offset: 18",
        ),
        (b'{"a":' + b"[" * 100_000, "The document is nested too deeply."),
    ],
)
def test_a_bad_document_is_refused_with_reason_and_offset(body, reason):
    with pytest.raises(InvalidArgument) as refused:
        read_object(body)
    assert refused.value.message == f"JSON Parse error: {reason}"


def test_a_document_is_parsed_twice_at_most(monkeypatch):
    """The second time with abbreviations spelled out; they may not be what is wrong."""
    parses = []

    class Counting(json.JSONDecoder):
        def raw_decode(self, *arguments):
            parses.append(arguments)
            return super().raw_decode(*arguments)

    monkeypatch.setattr(json_document, "_decoder", Counting())
    for text in (b'{"a": [1 NaN]}', b'{"a": [Inf 1 Inf, Inf]}'):
        parses.clear()
        with pytest.raises(InvalidArgument):
            read_object(text)
        assert len(parses) == 2


def test_what_looks_for_a_mistake_takes_no_memory_by_the_length_of_strings():
    body = b'{"a": "' + b"x" * 10**6 + b'", "b": [1 2]}'
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument):
            read_object(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 * len(body)


HARD_TO_SCAN = """
from serving.apis.tensorflow_serving.rest.json_document import read_object
from serving.core.errors import InvalidArgument

for body in (b'{"a": [Inf, "' + b'\\\\"' * 10**6, b'{"a": [' + b"9" * 4200 + b"," + b"1," * 10):
    for end in (b"", b"9" * 5000 + b"]}"):
        try:
            read_object(body + end)
        except InvalidArgument:
            pass
try:
    read_object(b'{"a": [' + (b"9" * 4200 + b",") * 500 + b"9" * 5000)
except InvalidArgument:
    print("refused")
"""


def test_scanning_for_a_mistake_takes_time_by_the_length_only():
    """By its square, this would take hours."""
    command = [sys.executable, "-c", HARD_TO_SCAN]
    done = subprocess.run(command, capture_output=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (0, b"refused\n"), done.stderr


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": 1}X{', {"a": 1}),
        (b'\xef\xbb\xbf \r\n{"a": 1}', {"a": 1}),
        (b'{"a": 1, "b": 2, "a": 3}', {"a": 1, "b": 2}),
        (b'{"a": [Inf, -Inf, Infinity, -Infinity]}', {"a": [math.inf, -math.inf] * 2}),
        (b'{"Inf": "-Inf \\" NaN", "a": Inf}', {"Inf": '-Inf " NaN', "a": math.inf}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
        (b'{"a": "\\\\ud800"}', {"a": "\\ud800"}),
        (b'{"a": "\xff"}', {"a": "\udcff"}),
        (b'{"a": 1}"\\ud800"', {"a": 1}),
    ],
    ids=[
        "stops when done",
        "byte order mark and blanks",
        "first of duplicates",
        "infinities",
        "names of numbers inside strings",
        "surrogate pair",
        "escaped backslash",
        "bytes that are not UTF-8",
        "nothing after the end is looked at",
    ],
)
def test_what_rapidjson_accepts(body, document):
    assert read_object(body) == document


def test_nan_is_a_number_with_and_without_sign():
    assert [math.isnan(value) for value in read_object(b'{"a": [NaN, -NaN]}')["a"]] == [True] * 2


def test_a_value_that_is_no_object_is_quoted():
    with pytest.raises(InvalidArgument) as refused:
        read_object(b" [1]")
    assert refused.value.message == "JSON Value: [\n    1\n] Is not object"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, "\u00e9"]}, '{\n    "a": [\n        1,\n        "\u00e9"\n    ]\n}'),
        ([], "[]"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (0.1234567, "0.123456702"),
        (1e300, "1e+300"),
        (math.nan, "NaN"),
        (None, "null"),
        (True, "true"),
        ("x" * 300, '"' + "x" * 255),
        ("\u00e9" * 200, '"' + "\u00e9" * 127),
        ([0] * 100_000, ("[" + "\n    0," * 100)[:256]),
    ],
)
def test_values_are_quoted_pretty_and_cut_at_256_bytes(value, text):
    assert quote(value) == text


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "Null"),
        (False, "False"),
        (True, "True"),
        ({}, "Object"),
        ([], "Array"),
        ("", "String"),
        (0, "Number"),
        (0.5, "Number"),
    ],
)
def test_types_have_rapidjsons_names(value, name):
    assert type_name(value) == name


def test_the_signature_name_is_optional_and_a_string():
    assert signature_name({}) == ""
    assert signature_name({"signature_name": "s"}) == "s"
    with pytest.raises(InvalidArgument) as refused:
        signature_name({"signature_name": 5})
    assert refused.value.message == (
        'JSON Value: {\n    "signature_name": 5\n} not formatted correctly. '
        "'signature_name' key must be a string value."
    )


MEMBERS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([-(2**63), 2**63, 2**64 - 1, 2**64, 1e308, -0.0, "\ud800", '"', "\\"]),
    lambda members: (
        st.lists(members, max_size=3) | st.dictionaries(st.text(max_size=2), members, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=500)
@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "b", "é"]), MEMBERS), max_size=3),
    after=st.sampled_from(["", " ", "}", "x"]),
    ascii_only=st.booleans(),
)
def test_the_fast_parser_makes_no_difference(pairs, after, ascii_only):
    """Whatever it takes comes out as it does without it: values, types, and which duplicate."""
    text = ", ".join(
        f"{json.dumps(key, ensure_ascii=ascii_only)}: {json.dumps(value, ensure_ascii=ascii_only)}"
        for key, value in pairs
    )
    body = f"{{{text}}}{after}".encode("utf-8", "surrogatepass")
    fast = json_document._plain_object(body)
    if fast is not None:
        assert repr(fast) == repr(json_document._decode(body.decode()))


def test_plain_documents_take_the_fast_parser():
    for body in (b'{"instances": [1, 2.5, [true, null]]}', b'{"signature_name": "s", "inputs": 1}'):
        assert json_document._plain_object(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": "x", "a": 1}',
        b'{"a": 1, "a": "x"}',
        b'{"a": ["x"]}',
        b'{"a": {}}',
        b'{"a": NaN}',
        b'{"a": 1} x',
        b'{"a": 1e400}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"[1]",
    ],
)
def test_what_the_fast_parser_may_read_differently_does_not_take_it(body):
    assert json_document._plain_object(body) is None


@pytest.mark.parametrize("digits", ["18446744073709551616", "-9223372036854775809", "9" * 300])
def test_integers_of_more_than_64_bits_are_doubles(digits):
    """In objects that take the fast parser, and in others."""
    for body in (f'{{"a": {digits}}}', f'{{"a": {digits}, "b": {{}}}}'):
        value = read_object(body.encode())["a"]
        assert (type(value), value) == (float, float(digits))
