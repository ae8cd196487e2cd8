"""Reading a command line against the table of flags, and describing the table to people."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.config.flags import FLAGS, GROUPS, Flag, FlagType, Support, Value
from serving.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A value for every flag, which flags were given, and the arguments that are none."""

    values: Mapping[str, Value]
    given: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()
    help_wanted: bool = False

    def __getitem__(self, name: str) -> Any:
        """The value of a flag, of the type its row in the table names."""
        return self.values[name]

    def arguments(self) -> list[str]:
        """The flags that were given, written so that they read the same again."""
        return [f"--{name}={_plain(self.values[name])}" for name in sorted(self.given)]


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """Read the arguments that follow the program's name.

    ``--name=value`` or ``--name value``; the last occurrence wins. A boolean is ``--name`` or has
    exactly ``true`` or ``false`` as its value; behind a bare one the next argument is taken only
    if it is one of these two words. What is no flag, and everything from ``--`` on, is unknown.
    Raises InvalidArgument, naming flag and value, for a value that cannot be read.
    """
    values: dict[str, Value] = {name: flag.default for name, flag in FLAGS.items()}
    given: set[str] = set()
    unknown: list[str] = []
    help_wanted = False
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            unknown += rest
            break
        name, equals, text = argument.removeprefix("--").partition("=")
        flag = FLAGS.get(name) if argument.startswith("--") else None
        if argument == "--help":
            help_wanted = True
        elif flag is None:
            unknown.append(argument)
        else:
            values[name] = _read(flag, text if equals else _take_value(flag, rest))
            given.add(name)
    return CommandLine(values, frozenset(given), tuple(unknown), help_wanted)


def help_text() -> str:
    """Every flag by group: how it is written with its default, its type, what it is for."""
    lines = [
        "usage: model_server [--flag=value ...]",
        "       model_server record --help    makes a warm-up file of logged requests",
        "       model_server convert --help   makes a model one of another format",
        "       model_server inspect --help   tells what a model is, and whether it loads",
        "       model_server replay --help    sends logged requests again and compares the answers",
    ]
    for title, flags in GROUPS.items():
        lines += ["", f"{title}:"]
        for flag in flags:
            lines.append(f"  --{flag.name}={_written(flag.default)}  ({flag.type.value})")
            note = "" if flag.support is Support.FULL else f" [{flag.support.value}]"
            lines.append(
                textwrap.fill(
                    flag.help + note, 96, initial_indent=" " * 6, subsequent_indent=" " * 6
                )
            )
    return "\n".join(lines) + "\n"


def warnings(command_line: CommandLine) -> list[str]:
    """What an operator must know of the flags given that do not do what they say."""
    changed = [
        flag
        for flag in FLAGS.values()
        if flag.name in command_line.given and command_line[flag.name] != flag.default
    ]
    later = [f"--{flag.name}" for flag in changed if flag.support is Support.LATER]
    no_effect = [
        f"--{flag.name}"
        for flag in FLAGS.values()
        if flag.name in command_line.given and flag.support is Support.NO_EFFECT
    ]
    found = []
    if later:
        found.append(f"not supported by this version yet, and ignored: {', '.join(later)}")
    if no_effect:
        found.append(f"without a meaning in this server, and ignored: {', '.join(no_effect)}")
    return found


def _take_value(flag: Flag, rest: list[str]) -> str:
    """The value of a flag written without ``=``, taken from the arguments behind it."""
    if flag.type is FlagType.BOOL:
        return rest.pop(0) if rest and rest[0] in _BOOLEANS else "true"
    if not rest or rest[0].startswith("--"):
        raise InvalidArgument(f"Missing value for flag {flag.name}.")
    return rest.pop(0)


def _read(flag: Flag, text: str) -> Value:
    try:
        return _READERS[flag.type](text)
    except (ValueError, KeyError):
        raise InvalidArgument(
            f"Couldn't interpret value {text} for flag {flag.name}: not {_ARTICLED[flag.type]}."
        ) from None


def _integer_reader(bits: int) -> Callable[[str], int]:
    limit = 2 ** (bits - 1)

    def read(text: str) -> int:
        # int() alone would also take underscores, blanks and the digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]+", text) or not -limit <= int(text) < limit:
            raise ValueError(text)
        return int(text)

    return read


def _read_float(text: str) -> float:
    number = float(text)
    if "_" in text or not math.isfinite(number):
        raise ValueError(text)
    return number


def _written(value: Value) -> str:
    return f'"{value}"' if isinstance(value, str) else _plain(value)


def _plain(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_BOOLEANS = {"true": True, "false": False}
_READERS: Mapping[FlagType, Callable[[str], Value]] = {
    FlagType.STRING: str,
    FlagType.INT32: _integer_reader(32),
    FlagType.INT64: _integer_reader(64),
    FlagType.FLOAT: _read_float,
    FlagType.BOOL: _BOOLEANS.__getitem__,
}
_ARTICLED: Mapping[FlagType, str] = {
    FlagType.STRING: "a string",
    FlagType.INT32: "an int32",
    FlagType.INT64: "an int64",
    FlagType.FLOAT: "a finite number",
    FlagType.BOOL: "true or false",
}
