"""Reading a protobuf message from a file, in whichever of its forms the file has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from serving.config.text_proto import parse_text_proto, read_text
from serving.core.errors import InvalidArgument, NotFound

M = TypeVar("M", bound=Message)

_JSON = re.compile(r'\s*{\s*(["}]|$)')
"""How a JSON object begins; the text format never quotes the name of a field."""


def read_message(path: str, message_type: type[M]) -> M:
    """The message in text format or JSON; a name in .yaml or .yml is YAML, one in .pb is binary.

    Raises NotFound or InvalidArgument, naming the file, for one that is missing or does not parse.
    """
    if Path(path).suffix == ".pb":
        return _parse_binary(path, message_type)
    text = read_text(path)
    if not is_document(path, text):
        return parse_text_proto(path, text, message_type)
    message = message_type()
    try:
        json_format.ParseDict(parse_document(path, text) or {}, message)
    except (json_format.ParseError, AttributeError) as error:
        raise InvalidArgument(f"'{path}' is no {message.DESCRIPTOR.name}: {error}") from None
    return message


def is_document(path: str, text: str) -> bool:
    """Whether the file is JSON or YAML, and not in text format."""
    return Path(path).suffix in (".yaml", ".yml") or _JSON.match(text) is not None


def parse_document(path: str, text: str) -> Any:
    """The values that the JSON or YAML says. Raises InvalidArgument with the place."""
    is_yaml = Path(path).suffix in (".yaml", ".yml")
    return _parse_yaml(path, text) if is_yaml else _parse_json(path, text)


def _parse_binary(path: str, message_type: type[M]) -> M:
    try:
        return message_type.FromString(Path(path).read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{path}; No such file or directory") from None
    except OSError as error:
        raise InvalidArgument(f"Cannot read '{path}': {error.strerror}") from None
    except DecodeError:
        name = message_type.DESCRIPTOR.name
        raise InvalidArgument(f"Invalid protobuf file: '{path}': no binary {name}") from None


def _parse_json(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgument(
            f"Invalid JSON file: '{path}': {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise InvalidArgument(f"Invalid JSON file: '{path}': nested too deeply") from None


def _parse_yaml(path: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidArgument(f"Invalid YAML file: '{path}': {error.problem}{where}") from None
    except yaml.YAMLError:
        raise InvalidArgument(f"Invalid YAML file: '{path}': not text") from None
    except RecursionError:
        raise InvalidArgument(f"Invalid YAML file: '{path}': nested too deeply") from None
    except ValueError as error:  # a number or a date that is none
        raise InvalidArgument(f"Invalid YAML file: '{path}': {error}") from None
