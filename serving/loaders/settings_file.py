"""Files beside a model that say how it is run: one JSON object, whose keys are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from serving.core.errors import InvalidArgument
from serving.loaders.model_file import unreadable

_Settings = TypeVar("_Settings")


def read_settings(directory: str, file: str, kind: Callable[..., _Settings]) -> _Settings:
    """What such a file of a version says, as a ``kind`` of settings, a dataclass; its defaults
    where there is no file.

    Raises InvalidArgument, naming the file, for one that is no object of ``kind``'s fields.
    """
    try:
        content = (Path(directory) / file).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return kind()
    except OSError as error:
        raise unreadable(error) from error
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{file} is no JSON: {error}") from None
    names = list(signature(kind).parameters)
    if not isinstance(document, dict) or not document.keys() <= set(names):
        raise InvalidArgument(f"{file}: it must be an object, which may have {', '.join(names)}")
    return kind(**document)


def check_choice(file: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise InvalidArgument naming file, setting and value for one that is not among ``choices``,
    but the empty string, which leaves it as it is.
    """
    if value != "" and value not in choices:
        raise InvalidArgument(
            f"{file}: {name} must be one of {', '.join(choices)}, not {json.dumps(value)[:80]}"
        )


def check_count(file: str, name: str, value: Any, most: int) -> None:
    """The same for what is no integer from 0 to ``most``."""
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidArgument(
            f"{file}: {name} must be an integer from 0 to {most}, not {json.dumps(value)[:80]}"
        )
