"""Reading configuration files in protobuf's text format."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from serving.core.errors import InvalidArgument, NotFound

M = TypeVar("M", bound=Message)


def read_text_proto(path: str, message_type: type[M]) -> M:
    """The message in the file; raises as :func:`read_text` and :func:`parse_text_proto` do."""
    return parse_text_proto(path, read_text(path), message_type)


def read_text(path: str) -> str:
    """The file's text.

    Raises NotFound when there is no such file, InvalidArgument when it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"{path}; No such file or directory") from None
    except OSError as error:
        raise InvalidArgument(f"Cannot read '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"Invalid protobuf file: '{path}': not UTF-8 text") from None


def parse_text_proto(path: str, text: str, message_type: type[M]) -> M:
    """The message that the text of the file at ``path`` holds.

    Raises InvalidArgument when it does not parse; the error names the file and the place, not the
    text, which may be a secret.
    """
    message = message_type()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise InvalidArgument(
            f"Invalid protobuf file: '{path}': Error parsing text-format "
            f"{message.DESCRIPTOR.full_name} at line {error.GetLine()}, column {error.GetColumn()}"
        ) from None
    return message
