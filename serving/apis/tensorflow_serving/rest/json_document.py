"""Request bodies as RapidJSON reads them, and how its values are quoted in error texts."""

from __future__ import annotations

import json
import math
import re
from typing import TypeAlias

import numpy as np
import orjson

from serving.apis.tensorflow_serving.rest.json_numbers import decimal_texts
from serving.core.errors import InvalidArgument

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]

_QUOTED_BYTES = 256
_LOWEST_INTEGER, _HIGHEST_INTEGER = -(2**63), 2**64 - 1
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_REASONS = {
    "Expecting value": "Invalid value.",
    "Expecting property name": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Unterminated string": "Missing a closing quotation mark in string.",
    "Invalid control character": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}
"""How messages of the standard decoder begin, and what a client of RapidJSON reads instead."""

# Possessive, and content with what has no end: neither memory nor a second look at any character.
_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_STRING_OR_BRACKET = re.compile(_STRING + r"|[][{}]", re.DOTALL)
_STRING_OR_ABBREVIATION = re.compile(_STRING + r"|(-?)(NaN|Inf(?:inity)?)", re.DOTALL)
_ABBREVIATION = re.compile(r"-?(NaN|Inf)")
_STRING_OR_LONG_NUMBER = re.compile(_STRING + r"|(-?[0-9]{4301,}+)|[0-9]++", re.DOTALL)
_SURROGATES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(\\u[dD][89a-fA-F])|\\.", re.DOTALL
)
_WHITESPACE = re.compile(r"[ \t\n\r]*")


def _first_of_duplicates(pairs: list[tuple[str, Json]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        members = {}
        for key, value in pairs:
            members.setdefault(key, value)
    return members


def _integer(digits: str) -> int | float:
    """Integers that take more than 64 bits are doubles, unless they are too big for these too."""
    value = int(digits)
    if _LOWEST_INTEGER <= value <= _HIGHEST_INTEGER:
        return value
    double = float(digits)
    return value if math.isinf(double) else double


_decoder = json.JSONDecoder(object_pairs_hook=_first_of_duplicates, parse_int=_integer)
_encoder = json.JSONEncoder(ensure_ascii=False, indent=4)


def read_object(body: bytes) -> JsonObject:
    """The JSON object at the start of ``body``; whatever follows it is not looked at.

    Bare ``NaN``, ``Inf`` and ``Infinity`` are numbers, the first of duplicate keys counts, and
    bytes that are not UTF-8 come through strings unchanged (as surrogate escapes). Raises
    InvalidArgument with the reason and the byte offset, or when the value is not an object.
    """
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    plain = _plain_object(body)
    if plain is not None:
        return plain
    text = body.decode("utf-8", "surrogateescape")
    try:
        value = _decode(text)
    except RecursionError:
        raise InvalidArgument("JSON Parse error: The document is nested too deeply.") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"JSON Value: {quote(value)} Is not object")
    return value


def _plain_object(body: bytes) -> JsonObject | None:
    """What the fast parser makes of an object without objects in it; None where it must not.

    It refuses what RapidJSON takes (NaN, bytes after the end, what is no UTF-8), and the last of
    duplicate keys counts for it, of which it says nothing: there are none where all quotation
    marks belong to the keys and strings that came out.
    """
    if body.count(b"{") != 1:
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict):
        return None
    num_strings = len(value) + sum(isinstance(member, str) for member in value.values())
    return value if body.count(b'"') == 2 * num_strings else None


def signature_name(document: JsonObject) -> str:
    """The signature that a request names, or ``""``; raises InvalidArgument if not a string."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            f"JSON Value: {quote(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def quote(value: Json) -> str:
    """A value as error texts show it: pretty-printed, cut at 256 bytes."""
    if isinstance(value, float):
        narrow = abs(value) <= _LARGEST_FLOAT32
        (text,) = decimal_texts(np.array([value], np.float32 if narrow else np.float64))
        return text
    text = ""
    for piece in _encoder.iterencode(value):
        text += piece
        if len(text) >= _QUOTED_BYTES:
            break
    cut = text.encode("utf-8", "surrogateescape")[:_QUOTED_BYTES]
    return cut.decode("utf-8", "ignore")


def type_name(value: Json) -> str:
    """RapidJSON's name for the type of a value; true and false are types of their own."""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return "String"
    if isinstance(value, dict):
        return "Object"
    if isinstance(value, list):
        return "Array"
    return "Null" if value is None else "Number"


def _decode(text: str, sent: str = "") -> Json:
    """The value that ``text`` holds: what was ``sent``, if that is another, with long names."""
    start = 1 if text.startswith("\ufeff") else 0
    start = _end_of_whitespace(text, start)
    if start == len(text):
        raise _parse_error(text, "The document is empty.", start)
    try:
        value, end = _decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if not sent and _ABBREVIATION.match(text, error.pos):
            return _decode(_with_long_names(text), text)
        reason, position = _reason_and_position(error, text)
        raise _parse_error(text, reason, position, sent) from None
    except ValueError:
        # Python refuses to convert integers of that many digits; RapidJSON reads them as doubles.
        raise _number_too_big(sent or text) from None
    if "\\u" in text:
        _check_surrogates(text, start, end, sent)
    decoded: Json = value
    return decoded


def _end_of_whitespace(text: str, start: int) -> int:
    match = _WHITESPACE.match(text, start)
    return match.end() if match else start


def _with_long_names(text: str) -> str:
    """``Inf`` spelled ``Infinity`` and ``-NaN`` spelled ``NaN``, which the decoder knows."""
    return _STRING_OR_ABBREVIATION.sub(_long_name, text)


def _long_name(match: re.Match[str]) -> str:
    sign, name = match.groups()
    if name is None:
        return match.group()
    return "NaN" if name == "NaN" else f"{sign}Infinity"


def _sent_position(position: int, sent: str) -> int:
    """Where what stands at this position of the text with long names stood as it was sent."""
    longer = 0
    for match in _STRING_OR_ABBREVIATION.finditer(sent):
        if match.start() + longer >= position:
            break
        longer += len(_long_name(match)) - len(match.group())
    return position - longer


def _reason_and_position(error: json.JSONDecodeError, text: str) -> tuple[str, int]:
    """RapidJSON's reason, and the place where it stops reading."""
    if error.msg.startswith("Expecting ',' delimiter"):
        if _innermost_bracket(text[: error.pos]) == "{":
            return "Missing a comma or } after an object member.", error.pos
        return "Missing a comma or ] after an array element.", error.pos
    reasons = (reason for start, reason in _REASONS.items() if error.msg.startswith(start))
    reason = next(reasons, "Unspecific syntax error.")
    if error.msg.startswith("Illegal trailing comma"):
        return reason, _end_of_whitespace(text, error.pos + 1)
    if error.msg.startswith("Unterminated string"):
        return reason, len(text)
    if "escape" in error.msg:
        return reason, text.rfind("\\", 0, error.pos + 1)
    return reason, error.pos


def _innermost_bracket(text: str) -> str:
    """The last bracket that ``text`` opens and does not close."""
    open_brackets: list[str] = []
    for match in _STRING_OR_BRACKET.finditer(text):
        token = match.group()
        if token in "[{":
            open_brackets.append(token)
        elif token in "]}":
            open_brackets.pop()
    return open_brackets[-1]


def _number_too_big(text: str) -> InvalidArgument:
    positions = (match.start(1) for match in _STRING_OR_LONG_NUMBER.finditer(text))
    position = next((position for position in positions if position >= 0), 0)
    return _parse_error(text, "Number too big to be stored in double.", position)


def _check_surrogates(text: str, start: int, end: int, sent: str) -> None:
    """Refuse half of a surrogate pair: it is no character and has no UTF-8."""
    for match in _SURROGATES.finditer(text, start, end):
        if match.group(1):
            reason = "The surrogate pair in string is invalid."
            raise _parse_error(text, reason, match.start(), sent)


def _parse_error(text: str, reason: str, position: int, sent: str = "") -> InvalidArgument:
    """The offset is that of the bytes which were sent."""
    if sent:
        text, position = sent, _sent_position(position, sent)
    offset = len(text[:position].encode("utf-8", "surrogateescape"))
    return InvalidArgument(f"JSON Parse error: {reason} at offset: {offset}")
