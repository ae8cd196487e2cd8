"""Request bodies as RapidJSON reads them, and how its values are quoted in error texts."""

from __future__ import annotations

import json
import math
import re
from typing import TypeAlias

import numpy as np
import orjson

from serving.apis.tensorflow_serving.rest.json_mistakes import (
    STRING,
    Mistake,
    end_of_whitespace,
    half_surrogate_pair,
    number_too_big,
    syntax_mistake,
)
from serving.apis.tensorflow_serving.rest.json_numbers import decimal_texts
from serving.core.errors import InvalidArgument

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]

_QUOTED_BYTES = 256
_LOWEST_INTEGER, _HIGHEST_INTEGER = -(2**63), 2**64 - 1
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

_STRING_OR_ABBREVIATION = re.compile(STRING + r"|(-?)(NaN|Inf(?:inity|(?!i)))", re.DOTALL)
_ABBREVIATION = re.compile(r"-?(NaN|Inf(?!i))|-Infinity|Infinity")
_LOW_SURROGATE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)


def _first_of_duplicates(pairs: list[tuple[str, Json]]) -> JsonObject:
    members = dict(pairs)
    if len(members) != len(pairs):
        members = {}
        for key, value in pairs:
            members.setdefault(key, value)
    return members


def _integer(digits: str) -> int | float:
    """Integers that take more than 64 bits are doubles.

    Raises ValueError for those that are too big for a double, as orjson does for other numbers.
    """
    value = int(digits)
    if _LOWEST_INTEGER <= value <= _HIGHEST_INTEGER:
        return value
    double = float(digits)
    if math.isinf(double):
        raise ValueError(digits)
    return double


_decoder = json.JSONDecoder(
    object_pairs_hook=_first_of_duplicates, parse_int=_integer, parse_float=orjson.loads
)
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
    start = end_of_whitespace(text, start)
    if start == len(text):
        raise _parse_error(text, Mistake("The document is empty.", start))
    try:
        value, end = _decoder.raw_decode(text, start)
    except ValueError as error:
        if type(error) is not json.JSONDecodeError:  # the reader of numbers has one of its own
            raise _parse_error(sent or text, number_too_big(sent or text)) from None
        if not sent and _ABBREVIATION.match(text, error.pos):
            return _decode(_with_long_names(text), text)
        position = _sent_position(error.pos, sent)
        raise _parse_error(sent or text, syntax_mistake(error, sent or text, position)) from None
    if "\\u" in text:
        if mistake := half_surrogate_pair(text, start, end):
            position = _sent_position(mistake.position, sent)
            raise _parse_error(sent or text, mistake._replace(position=position))
        bytes_of_halves = _LOW_SURROGATE.sub(_low_surrogate, text[start:end])
        if len(bytes_of_halves) != end - start:
            return _decode(bytes_of_halves)
    decoded: Json = value
    return decoded


def _low_surrogate(match: re.Match[str]) -> str:
    """The second half of a pair alone: RapidJSON writes it as it would any character."""
    half = match.group(1)
    if half is None:
        return match.group()
    return chr(int(half, 16)).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")


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


def _parse_error(text: str, mistake: Mistake) -> InvalidArgument:
    """The offset is that of the bytes which were sent."""
    offset = len(text[: mistake.position].encode("utf-8", "surrogateescape"))
    return InvalidArgument(f"JSON Parse error: {mistake.reason} at offset: {offset}")
