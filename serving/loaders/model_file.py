"""The one file of a version that is its model, and how much memory it will need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serving.core.errors import InvalidArgument, NotFound
from serving.core.resources import ResourceAllocation


def model_file(path: str, suffixes: Sequence[str], ignored: Sequence[str] = ()) -> Path:
    """The file called ``model`` with one of the suffixes, or the one that has such a suffix.

    ``path`` is a version directory, or the file itself; ``ignored`` are names of files that are no
    models. Raises NotFound where there is none or
    more than one, InvalidArgument for files that can not be looked at.
    """
    given = Path(path)
    try:
        if given.is_file():
            return given
        # Not a glob, which passes over a directory that may not be read.
        fitting = sorted(
            child
            for child in given.iterdir()
            if child.suffix in suffixes and child.name not in ignored
        )
    except OSError as error:
        raise unreadable(error) from error
    candidates = [file for file in fitting if file.stem == "model"] or fitting
    if len(candidates) == 1:
        return candidates[0]
    names = " or ".join(f"model{suffix}" for suffix in suffixes)
    raise NotFound(
        f"a version is one {names}, or one such file of another name, "
        f"but there are {len(candidates)}"
    )


def ram_of_file(file: Path, factor: float, more: int = 0) -> ResourceAllocation:
    """Main memory of ``factor`` times a file's size and ``more`` bytes.

    Raises InvalidArgument as above.
    """
    try:
        return ResourceAllocation.ram(int(factor * file.stat().st_size) + more)
    except OSError as error:
        raise unreadable(error) from error


def read_model(file: Path) -> bytes:
    """All of a model's file. Raises InvalidArgument as above, and for an empty one."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise unreadable(error) from error
    if not content:
        raise InvalidArgument(f"{file.name} is empty")
    return content


def read_start(file: Path, size: int) -> bytes:
    """The first bytes of a model's file, ``size`` at most. Raises InvalidArgument as above."""
    try:
        with file.open("rb") as content:
            return content.read(size)
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> InvalidArgument:
    """The error of a model that the system does not let anyone read, without its path."""
    return InvalidArgument(f"the model can not be read: {error.strerror}")
