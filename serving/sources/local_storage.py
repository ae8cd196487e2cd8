"""Versions in directories of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from serving.core.errors import NotFound
from serving.sources.storage import StoredFile, scheme_of


class LocalStorage:
    """Directories of this machine, as paths or ``file://`` URIs."""

    def children(self, base_path: str) -> Mapping[str, str]:
        base_path = _local_path(base_path)
        try:
            names = os.listdir(base_path)  # noqa: PTH208  # names are wanted, not paths
        except OSError as error:
            raise NotFound(str(error.strerror)) from error
        except ValueError as error:  # a name that no file can have
            raise NotFound(str(error)) from error
        return {name: f"{base_path}/{name}" for name in names}

    def files(self, path: str) -> Sequence[StoredFile]:
        """As in :class:`Storage`; links are not followed, ``tag`` is the modification time."""
        root = Path(_local_path(path))
        try:
            found = [root] if root.is_file() else sorted(p for p in _walk(root) if p.is_file())
            return [_stored(root, file) for file in found]
        except OSError as error:
            raise NotFound(str(error.strerror)) from error


def _local_path(path: str) -> str:
    return unquote(urlsplit(path).path) if scheme_of(path) == "file" else path


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root, onerror=_raise):
        yield from (Path(folder, name) for name in names)


def _raise(error: OSError) -> None:
    raise error


def _stored(root: Path, file: Path) -> StoredFile:
    status = file.lstat()
    name = "" if file == root else file.relative_to(root).as_posix()
    tag = str(status.st_mtime_ns)
    return StoredFile(name, str(file), status.st_size, tag, status.st_mtime)
