"""What is wrong with a JSON document, and where, in the words of RapidJSON 1.1.0.

The standard decoder says what it did not find where. RapidJSON has other words for that, and goes
on inside a word, a number or a pair of escapes to the very character that is wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import NamedTuple

# Possessive, and content with what has no end: neither memory nor a second look at any character.
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'

_STRING_OR_BRACKET = re.compile(STRING + r"|[][{}]", re.DOTALL)
_STRING_OR_NUMBER = re.compile(
    STRING + r"|(-?[0-9]++(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+)", re.DOTALL
)
_HALF_PAIR = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(\\u[dD][89abAB])|\\.", re.DOTALL
)
_FOUR_DIGITS = re.compile(r"[0-9a-fA-F]{4}")
_WHOLE_NUMBER = re.compile(r"-?[0-9]++")
_DECIMAL_NUMBER = re.compile(r"-?[0-9]++(?:\.[0-9]++)?+")
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_WORDS = {word[0]: word for word in ("true", "false", "null", "NaN", "Infinity")}
_IN_NUMBERS = "0123456789.+-eE"

_REASONS = {
    "Expecting property name": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
}
"""How messages of the standard decoder begin, and what a client of RapidJSON reads instead."""


class Mistake(NamedTuple):
    """RapidJSON's reason, and the position in the text where it stops reading."""

    reason: str
    position: int


def syntax_mistake(error: json.JSONDecodeError, text: str, position: int) -> Mistake:
    """What is wrong at the position, of ``text``, where the standard decoder stopped."""
    return half_surrogate_pair(text, 0, position) or _mistake_at(error.msg, text, position)


def number_too_big(text: str) -> Mistake:
    """The first number that no double holds; the start of the text if there is none."""
    numbers = (match for match in _STRING_OR_NUMBER.finditer(text) if match.group(1))
    positions = (match.start() for match in numbers if math.isinf(float(match.group())))
    return Mistake("Number too big to be stored in double.", next(positions, 0))


def half_surrogate_pair(text: str, start: int, end: int) -> Mistake | None:
    """The first escape between the positions that begins a surrogate pair which is none."""
    for match in _HALF_PAIR.finditer(text, start, end):
        if match.group(1):
            if _is_unfinished_escape(text, match.start() + 6):
                reason = "Incorrect hex digit after \\u escape in string."
            else:
                reason = "The surrogate pair in string is invalid."
            return Mistake(reason, match.start())
    return None


def end_of_whitespace(text: str, start: int) -> int:
    match = _WHITESPACE.match(text, start)
    return match.end() if match else start


def _mistake_at(message: str, text: str, position: int) -> Mistake:
    readers = (reader for start, reader in _READERS.items() if message.startswith(start))
    if reader := next(readers, None):
        return reader(text, position)
    reasons = (reason for start, reason in _REASONS.items() if message.startswith(start))
    if message.startswith("Illegal trailing comma"):
        position = end_of_whitespace(text, position + 1)
    return Mistake(next(reasons, "Unspecific syntax error."), position)


def _no_value(text: str, position: int) -> Mistake:
    """Words are read to the letter that is not theirs, numbers to the end of the sign."""
    found = text[position : position + 1]
    if found in ("}", "]", ",", ":", "\0") and not text[:position].strip("\ufeff \t\n\r"):
        return Mistake("The document is empty.", position)
    number = found == "-"
    start = position + number
    word = _WORDS.get(text[start : start + 1], "")
    if number and word.islower():
        word = ""
    read = 0
    while read < len(word) and text.startswith(word[read], start + read):
        read += 1
    return Mistake("Invalid value.", start + read)


def _no_comma_or_number_end(text: str, position: int) -> Mistake:
    return _unfinished_number(text, position) or _no_comma(text, position)


def _unfinished_number(text: str, position: int) -> Mistake | None:
    """Where the decoder ends a number and expects a comma, a fraction or exponent may begin."""
    following = text[position : position + 1]
    if following not in (".", "e", "E"):
        return None
    before = text[:position]
    number = before[len(before.rstrip(_IN_NUMBERS)) :]
    if following == ".":
        if not _WHOLE_NUMBER.fullmatch(number):
            return None
        return Mistake("Miss fraction part in number.", position + 1)
    if not _DECIMAL_NUMBER.fullmatch(number):
        return None
    has_sign = text[position + 1 : position + 2] in ("+", "-")
    return Mistake("Miss exponent in number.", position + 1 + has_sign)


def _no_comma(text: str, position: int) -> Mistake:
    if _innermost_bracket(text[:position]) == "{":
        return Mistake("Missing a comma or '}' after an object member.", position)
    return Mistake("Missing a comma or ']' after an array element.", position)


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


def _unterminated_string(text: str, _: int) -> Mistake:
    if mistake := half_surrogate_pair(text, 0, len(text)):
        return mistake
    if (len(text) - len(text.rstrip("\\"))) % 2:
        return Mistake("Invalid escape character in string.", len(text) - 1)
    return Mistake("Missing a closing quotation mark in string.", len(text))


def _control_character(text: str, position: int) -> Mistake:
    if text[position] == "\0":
        return Mistake("Missing a closing quotation mark in string.", position)
    return Mistake("Invalid escape character in string.", position)


def _wrong_escape(text: str, position: int) -> Mistake:
    return Mistake("Invalid escape character in string.", text.rfind("\\", 0, position + 1))


def _wrong_digits(text: str, position: int) -> Mistake:
    start = text.rfind("\\", 0, position + 1)
    if not _is_unfinished_escape(text, start):  # and the text ends with it
        return _unterminated_string(text, position)
    return Mistake("Incorrect hex digit after \\u escape in string.", start)


def _is_unfinished_escape(text: str, position: int) -> bool:
    """Whether hexadecimal digits lack after an escape for a code point."""
    return text.startswith("\\u", position) and not _FOUR_DIGITS.match(text, position + 2)


_READERS: dict[str, Callable[[str, int], Mistake]] = {
    "Expecting value": _no_value,
    "Expecting ',' delimiter": _no_comma_or_number_end,
    "Unterminated string": _unterminated_string,
    "Invalid control character": _control_character,
    "Invalid \\escape": _wrong_escape,
    "Invalid \\uXXXX escape": _wrong_digits,
}
"""How messages begin of which the text must tell more."""
