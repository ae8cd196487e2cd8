"""What a path on the command line is: a version, a directory of versions, or one model file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.core.errors import InvalidArgument, NotFound, PermissionDenied
from serving.loaders.platform_detection import fitting_platforms
from serving.sources.storage import is_remote
from serving.sources.version_selection import versions_among

_NO_NAMES = frozenset({"model", "saved_model", "export"})
BASE_PATH, VERSION, FILE = "base_path", "version", "file"


@dataclass(frozen=True, slots=True)
class ModelPath:
    """A model that is there: its ``kind``, a name for it, and where the version to look at lies.

    ``version`` is None for what has no number; ``versions`` are all of a base path, highest first.
    ``platforms`` are those whose files it has, each with the files.
    """

    kind: str
    name: str
    path: Path
    platforms: dict[str, list[str]]
    version: int | None = None
    versions: tuple[int, ...] = ()


def find_model(text: str) -> ModelPath:
    """What is at the path.

    Raises NotFound where nothing is or no model can be, PermissionDenied where one may not look,
    InvalidArgument for an URI.
    """
    if is_remote(text):
        raise InvalidArgument(f"{text} is not on this machine: copy the version here first")
    path = Path(os.path.abspath(text))  # noqa: PTH100  # links keep their names: those are versions
    try:
        if path.is_dir():
            return _directory(path)
        path.stat()
        platforms = fitting_platforms(path)
    except FileNotFoundError:
        raise NotFound(f"there is no {text}") from None
    except PermissionError as error:
        raise PermissionDenied(f"{error.filename or text} may not be read") from None
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{text} can not be read: {error}") from None
    name = _name_of(path.parent) if path.stem in _NO_NAMES else path.stem
    return ModelPath(FILE, name, path, platforms)


def platform_of_model(model: ModelPath) -> str:
    """The one platform whose files it has. Raises InvalidArgument where there are several or none,
    with their names.
    """
    if len(model.platforms) == 1:
        return next(iter(model.platforms))
    if not model.platforms:
        raise NotFound(
            f"{model.path.name} has no files that a platform is known by; --platform says which "
            "platform it is for"
        )
    listed = "; ".join(f"{name} ({', '.join(files)})" for name, files in model.platforms.items())
    raise InvalidArgument(f"its files suit several platforms, {listed}: choose with --platform")


@contextmanager
def as_version(model: ModelPath) -> Iterator[str]:
    """A directory that holds the model as the only one.

    That of a file is its own where there is no other model in it, else one that goes again.
    """
    if model.kind != FILE:
        yield str(model.path)
        return
    folder = model.path.parent
    others = {name for files in fitting_platforms(folder).values() for name in files}
    if others <= {model.path.name}:
        yield str(folder)
        return
    with tempfile.TemporaryDirectory() as alone:
        kept = {child.name for child in folder.iterdir() if child.is_file()} - others
        _name_again([folder / name for name in kept | {model.path.name}], Path(alone))
        yield alone


def size_of(model: ModelPath) -> tuple[int, int]:
    """How many files, and how many bytes they have."""
    if model.kind == FILE:
        return 1, model.path.stat().st_size
    files = [Path(folder, name) for folder, _, names in os.walk(model.path) for name in names]
    return len(files), sum(file.stat().st_size for file in files if file.exists())


def _directory(path: Path) -> ModelPath:
    """Where directories of numbers hold models, what lies beside them is none of a version's."""
    found = versions_among({child.name: str(child) for child in path.iterdir() if child.is_dir()})
    fitting = {number: fitting_platforms(Path(version)) for number, version in found}
    platforms = fitting_platforms(path)
    if not found or (platforms and not any(fitting.values())):
        version = int(path.name) if _is_number(path.name) else None
        return ModelPath(VERSION, _name_of(path), path, platforms, version)
    numbers = tuple(sorted({number for number, _ in found}, reverse=True))
    newest, newest_path = found[-1]
    return ModelPath(BASE_PATH, _name_of(path), Path(newest_path), fitting[newest], newest, numbers)


def _name_of(directory: Path) -> str:
    """What a server would call the model: as its base path."""
    base_path = directory.parent if _is_number(directory.name) else directory
    return base_path.name or "model"


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _name_again(files: Sequence[Path], folder: Path) -> None:
    """Give the files a second name in the folder, without a copy, however large they are.

    All are links of one kind: ONNX Runtime takes what lies beside a model only where it really
    does, or does so for links as well.
    """
    try:
        for file in files:
            (folder / file.name).hardlink_to(file.resolve())
    except OSError:  # another file system, or somebody else's file
        for file in files:
            again = folder / file.name
            again.unlink(missing_ok=True)
            again.symlink_to(file.resolve())
