"""Numbers, words and escapes at the edges of JSON: what RapidJSON 1.1.0 answered to each body.

It was asked as TensorFlow Serving asks it, with NaN and infinities allowed and stopping at the end
of the document. It rounds numbers of many digits by up to three units in the last place, where they
are the nearest double here, and refuses a zero with a large exponent, which is a zero here.
"""

from __future__ import annotations

import json
import math

import pytest

from serving.apis.tensorflow_serving.rest.json_document import read_object
from serving.apis.tensorflow_serving.rest.json_mistakes import Mistake, syntax_mistake
from serving.core.errors import InvalidArgument

INVALID = "Invalid value."
EMPTY = "The document is empty."
NO_BRACE = "Missing a comma or '}' after an object member."
NO_BRACKET = "Missing a comma or ']' after an array element."
NO_NAME = "Missing a name for object member."
NO_FRACTION = "Miss fraction part in number."
NO_EXPONENT = "Miss exponent in number."
TOO_BIG = "Number too big to be stored in double."
NO_QUOTE = "Missing a closing quotation mark in string."
NO_ESCAPE = "Invalid escape character in string."
NO_HEX = "Incorrect hex digit after \\u escape in string."
NO_PAIR = "The surrogate pair in string is invalid."


@pytest.mark.parametrize(
    ("spelled", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("-1", -1),
        ("1E5", 1e5),
        ("1e+5", 1e5),
        ("1E-05", 1e-5),
        ("-0.0", -0.0),
        ("-0e5", -0.0),
        ("0.1e309", 1e308),
        ("1e-400", 0.0),
        ("-1e-400", -0.0),
        ("2e-324", 0.0),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("9223372036854775808", 2**63),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("-9223372036854775809", -(2.0**63)),
        ("12345678901234567890", 12345678901234567890),
        ("-12345678901234567890", -12345678901234567890.0),
        ("99999999999999999999", 1e20),
        ("Inf", math.inf),
        ("-Inf", -math.inf),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
    ],
)
def test_a_number_is_an_integer_of_64_bits_or_a_double(spelled, number):
    """In documents for either parser."""
    for body in (f'{{"a": {spelled}}}', f'{{"a": {spelled}, "b": {{}}}}'):
        value = read_object(body.encode())["a"]
        assert (type(value), repr(value)) == (type(number), repr(number))


@pytest.mark.parametrize("spelled", ["NaN", "-NaN"])
def test_not_a_number_has_either_sign(spelled):
    assert math.isnan(read_object(f'{{"a": {spelled}}}'.encode())["a"])


@pytest.mark.parametrize(
    ("spelled", "reason", "offset"),
    [
        ("01", NO_BRACE, 1),
        ("-01", NO_BRACE, 2),
        ("+1", INVALID, 0),
        (".5", INVALID, 0),
        ("-.5", INVALID, 1),
        ("-", INVALID, 1),
        ("--1", INVALID, 1),
        ("5.", NO_FRACTION, 2),
        ("-5.e1", NO_FRACTION, 3),
        ("1e", NO_EXPONENT, 2),
        ("1.5E+", NO_EXPONENT, 5),
        ("1.5.5", NO_BRACE, 3),
        ("1e5e5", NO_BRACE, 3),
        ("1e5.5", NO_BRACE, 3),
        ("1-1", NO_BRACE, 1),
        ("0x10", NO_BRACE, 1),
        ("1_000", NO_BRACE, 1),
        ("1e309", TOO_BIG, 0),
        ("1e400", TOO_BIG, 0),
        ("-1e400", TOO_BIG, 0),
        ("1e99999999999", TOO_BIG, 0),
        ("9" * 309, TOO_BIG, 0),
        ("-" + "9" * 5000, TOO_BIG, 0),
        ("1" * 400 + ".5", TOO_BIG, 0),
        ("N", INVALID, 1),
        ("Nan", INVALID, 2),
        ("nan", INVALID, 1),
        ("NAN", INVALID, 1),
        ("-nan", INVALID, 1),
        ("+NaN", INVALID, 0),
        ("NaN1", NO_BRACE, 3),
        ("1NaN", NO_BRACE, 1),
        ("inf", INVALID, 0),
        ("INF", INVALID, 1),
        ("-inf", INVALID, 1),
        ("In", INVALID, 2),
        ("-In", INVALID, 3),
        ("Infi", INVALID, 4),
        ("Infinit", INVALID, 7),
        ("-Infinit", INVALID, 8),
        ("infinity", INVALID, 0),
        ("Infx", NO_BRACE, 3),
        ("Infinityi", NO_BRACE, 8),
        ("tru", INVALID, 3),
        ("True", INVALID, 0),
        ("truee", NO_BRACE, 4),
        ("fa", INVALID, 2),
        ("nulL", INVALID, 3),
        ("None", INVALID, 1),
        ("'a'", INVALID, 0),
        ("/*c*/1", INVALID, 0),
        ("1/*c*/", NO_BRACE, 1),
        ("1//c\n", NO_BRACE, 1),
        ("[1,]", INVALID, 3),
        ("[,1]", INVALID, 1),
        ("[1,,2]", INVALID, 3),
        ("[1 2]", NO_BRACKET, 3),
        ("1,", NO_NAME, 2),
        ("1,,", NO_NAME, 2),
    ],
)
def test_what_is_no_value_is_refused_where_it_ceases_to_be_one(spelled, reason, offset):
    """The offset counts from the start of the value."""
    for before in ('{"a": ', '{"b": [Inf, -NaN], "a": '):
        with pytest.raises(InvalidArgument) as refused:
            read_object(f"{before}{spelled}}}".encode())
        place = len(before) + offset
        assert refused.value.message == f"JSON Parse error: {reason} at offset: {place}"


@pytest.mark.parametrize(
    ("body", "reason", "offset"),
    [
        (b"}", EMPTY, 0),
        (b" ]", EMPTY, 1),
        (b",", EMPTY, 0),
        (b":", EMPTY, 0),
        (b"\0", EMPTY, 0),
        (b"\xef\xbb\xbf", EMPTY, 3),
        (b"\xef\xbb\xbf}", EMPTY, 3),
        (b" \xef\xbb\xbf{}", INVALID, 1),
        (b'{"a":\xef\xbb\xbf1}', INVALID, 5),
        (b"\xff", INVALID, 0),
        (b"// c\n{}", INVALID, 0),
        (b"{/*c*/}", NO_NAME, 1),
        (b"{,}", NO_NAME, 1),
        (b'{"a":1,}', NO_NAME, 7),
        (b"{'a':1}", NO_NAME, 1),
        (b'{"a":1\0}', NO_BRACE, 6),
        (b'{"a":1\xc2\xa0}', NO_BRACE, 6),
        (b'{"a":[1}', NO_BRACKET, 7),
        (b'{"a":{"b":1]}', NO_BRACE, 11),
    ],
)
def test_what_is_no_document_is_refused_where_that_shows(body, reason, offset):
    with pytest.raises(InvalidArgument) as refused:
        read_object(body)
    assert refused.value.message == f"JSON Parse error: {reason} at offset: {offset}"


@pytest.mark.parametrize(
    ("string", "reason", "offset"),
    [
        ('"\\ud800"', NO_PAIR, 1),
        ('"\\ud800\\u0041"', NO_PAIR, 1),
        ('"\\ud800\\ud800"', NO_PAIR, 1),
        ('"\\ud800x', NO_PAIR, 1),
        ('"\\ud800\\x"', NO_PAIR, 1),
        ('"\\ud800\\n", x', NO_PAIR, 1),
        ('"\\ud800\\u12"', NO_HEX, 1),
        ('"\\u12"', NO_HEX, 1),
        ('"\\u12g4"', NO_HEX, 1),
        ('"\\u00e9", "\\u"', NO_HEX, 11),
        ('"\\x"', NO_ESCAPE, 1),
        ('"a\\', NO_ESCAPE, 2),
        ('"a\\\\', NO_QUOTE, 4),
        ('"\\u00e9', NO_QUOTE, 7),
        ('"\\ud800', NO_PAIR, 1),
        ('"a\tb"', NO_ESCAPE, 2),
        ('"a\nb"', NO_ESCAPE, 2),
        ('"a\x1fb"', NO_ESCAPE, 2),
        ('"a\0b"', NO_QUOTE, 2),
        ('"abc', NO_QUOTE, 4),
    ],
)
def test_a_string_is_refused_at_the_escape_that_is_none(string, reason, offset):
    for before in ('{"a": [', '{"a": [Inf, '):
        with pytest.raises(InvalidArgument) as refused:
            read_object((before + string).encode())
        place = len(before) + offset
        assert refused.value.message == f"JSON Parse error: {reason} at offset: {place}"


@pytest.mark.parametrize(
    ("string", "content"),
    [
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}".encode()),
        (b'"\\uD83D\\uDE00"', "\N{GRINNING FACE}".encode()),
        (b'"\\udc80"', b"\xed\xb2\x80"),
        (b'"\\udfff\\ud83d\\ude00\xff"', b"\xed\xbf\xbf\xf0\x9f\x98\x80\xff"),
        (b'"\\\\udc00"', b"\\udc00"),
        (b'"\\u0000"', b"\0"),
        (b'"\x7f"', b"\x7f"),
        (b'"\\/\\b\\f\\r"', b"/\b\f\r"),
        (b'"\xed\xa0\x80"', b"\xed\xa0\x80"),
    ],
)
def test_escapes_become_the_bytes_of_their_characters(string, content):
    """The second half of a surrogate pair is one of them also where it stands alone."""
    value = read_object(b'{"a": [' + string + b", 1]}")["a"][0]
    assert value.encode("utf-8", "surrogateescape") == content
    assert read_object(b'{"a": [Inf, ' + string + b"]}")["a"][1] == value


def test_the_first_mistake_of_several_counts():
    for body, reason in (
        (b'{"a": ["\\ud800", x, 1e400]}', NO_PAIR),
        (b'{"a": [x, "\\ud800", 1e400]}', INVALID),
        (b'{"a": [1e400, "\\ud800", x]}', TOO_BIG),
        (b'{"a": ["1e400", 1, 1e400]}', TOO_BIG),
    ):
        with pytest.raises(InvalidArgument) as refused:
            read_object(body)
        assert reason in refused.value.message


@pytest.mark.parametrize(
    ("message", "text", "position", "expected"),
    [
        ("Illegal trailing comma before end of array", "[1, ]", 2, (INVALID, 4)),
        ("Illegal trailing comma before end of object", '{"a": 1,}', 7, (NO_NAME, 8)),
        ("Something new", "{", 1, ("Unspecific syntax error.", 1)),
    ],
)
def test_messages_of_newer_pythons_read_the_same(message, text, position, expected):
    error = json.JSONDecodeError(message, text, position)
    assert syntax_mistake(error, text, position) == Mistake(*expected)
