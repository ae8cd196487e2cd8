"""Which platform a version is for, told from its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from serving.core.errors import InvalidArgument, NotFound
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.platform import Platform
from serving.loaders.platform_table import PLATFORMS, ModelFile, PlatformRow

DETECTED = ""
"""What a configuration says that leaves the platform to the files of each version."""

_LONGEST_BEGINNING = 1024


def platform_of(path: str, table: Mapping[str, PlatformRow] = PLATFORMS) -> str:
    """The name of the platform whose files the version at ``path`` has; opens few of them.

    A file that one platform knows by its whole name counts for no platform that knows it by a
    pattern. Raises NotFound where no platform's files are there, InvalidArgument with all of them
    where there are those of several, or where the directory can not be read.
    """
    try:
        fitting = fitting_platforms(Path(path), table)
    except OSError as error:
        raise InvalidArgument(f"the version can not be read: {error.strerror}") from error
    if not fitting:
        raise NotFound(
            "no platform is configured, and none recognises the version by its files; looked for "
            f"{_looked_for(table)}"
        )
    if len(fitting) > 1:
        listed = "; ".join(f"{name} ({', '.join(files)})" for name, files in fitting.items())
        raise InvalidArgument(
            "no platform is configured, and the version's files suit several: "
            f"{listed}; model_platform has to say which"
        )
    return next(iter(fitting))


def fitting_platforms(
    path: Path, table: Mapping[str, PlatformRow] = PLATFORMS
) -> dict[str, list[str]]:
    """The platforms whose files are in the directory, or whose the file is, and which those are.

    Raises OSError where they can not be read.
    """
    found = _found(path, table)
    owned = _owned(found, table)
    return {
        name: sorted(left)
        for name, files in found.items()
        if (left := files - set().union(*(owned[other] for other in found if other != name)))
    }


class DetectedPlatform:
    """Loads each version with the platform that its files are for."""

    def __init__(self, get: Callable[[str], Platform]) -> None:
        """``get``: the platform of a name."""
        self._get = get

    def estimate(self, path: str) -> ResourceAllocation:
        """As the platform that would load it."""
        return self._get(platform_of(path)).estimate(path)

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """Raises what :func:`platform_of` and the platform raise."""
        return self._get(platform_of(path)).load(servable_id, path, device)


def _found(path: Path, table: Mapping[str, PlatformRow]) -> dict[str, set[str]]:
    """The names of files by the platforms that recognise them."""
    try:
        files = {file.name: file for file in path.iterdir()}
    except NotADirectoryError:
        files = {path.name: path}
    found = {
        name: {file for file in files if any(_matches(files[file], each) for each in row.files)}
        for name, row in sorted(table.items())
    }
    return {name: matching for name, matching in found.items() if matching}


def _owned(
    found: Mapping[str, set[str]], table: Mapping[str, PlatformRow]
) -> Mapping[str, set[str]]:
    """The files that can be no other platform's where these platforms' files are."""
    exact = {file.pattern for row in table.values() for file in row.files if file.is_exact}
    here = set().union(*found.values())
    return {
        name: {
            file.pattern for file in table[name].files if file.is_exact and file.pattern in files
        }
        | {file for file in here for each in table[name].beside if _is_beside(file, each, exact)}
        for name, files in found.items()
    }


def _is_beside(file: str, pattern: str, exact: set[str]) -> bool:
    """Whether ``pattern`` takes ``file``; one of the names ``exact`` only where it is that name."""
    return file == pattern or (file not in exact and fnmatchcase(file, pattern))


def _matches(path: Path, file: ModelFile) -> bool:
    folder, _, pattern = file.pattern.rpartition("/")
    if folder:
        return path.name == folder and any(path.glob(pattern))
    if not fnmatchcase(path.name, pattern):
        return False
    if not file.begins:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as content:
        return re.match(file.begins, content.read(_LONGEST_BEGINNING)) is not None


def _looked_for(table: Mapping[str, PlatformRow]) -> str:
    patterns: Iterable[str] = {file.pattern for row in table.values() for file in row.files}
    return ", ".join(sorted(patterns))
