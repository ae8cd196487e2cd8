"""Archives as versions: what they are called, and how to unpack one that nobody vouches for."""

from __future__ import annotations

import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from serving.core.errors import DataLoss, InvalidArgument
from serving.sources.storage import without_secrets

_NAME = re.compile(r"(?P<stem>[^/]*)\.(?P<format>tar|tar\.gz|tgz|zip)", re.IGNORECASE)
_MOST_MEMBERS = 100_000
_SMALL_BYTES = 2**30
_MOST_EXPANSION = 100
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Member:
    """One file in an archive."""

    name: str
    size_bytes: int
    open: Callable[[], IO[bytes]]


def is_archive(uri: str) -> bool:
    """Whether the path ends as .tar, .tar.gz, .tgz or .zip; a query is not looked at."""
    return _match(uri) is not None


def archive_version(uri: str) -> str:
    """The version that an archive is: its name when that is a number (``…/7.tar.gz``), else 1.

    An archive is one version, because its listing would have to be downloaded to find more.
    """
    match = _match(uri)
    stem = match["stem"] if match else ""
    return stem if re.fullmatch(r"[0-9]+", stem, re.ASCII) else "1"


def relative_parts(name: str) -> tuple[str, ...]:
    """The components of a name that came from outside.

    Raises InvalidArgument when it would lead out of the directory it is put in.
    """
    parts = tuple(part for part in name.rstrip("/").split("/") if part != ".")
    if not parts or any(part in {"", ".."} or "\0" in part for part in parts):
        raise InvalidArgument(f"the name {name!r} leads out of the version's directory")
    return parts


def unpack(archive: Path, uri: str, target: Path, reserve: Callable[[int], None]) -> None:
    """Write the files of an archive below ``target``, which is made, and have them on disk.

    ``uri`` is the archive's own, which tells the format. The whole table of contents is checked
    first; then ``reserve`` is called with the bytes that follow, and may raise; then they are
    written. Raises InvalidArgument for anything but plain files and directories with names that
    stay inside, and for the sizes of a bomb: more than a hundred times the archive's and a
    gigabyte. Raises DataLoss for a damaged archive, OSError when ``target`` cannot be written.
    """
    most_bytes = max(_SMALL_BYTES, _MOST_EXPANSION * archive.stat().st_size)
    with _opened(archive, uri) as container:
        members = _checked(_members(container), most_bytes)
        reserve(sum(member.size_bytes for member in members))
        target.mkdir()
        for member in members:
            _write(member, target.joinpath(*relative_parts(member.name)))


def content_root(unpacked: Path) -> Path:
    """The version's directory in what was unpacked: below directories that hold only one other.

    Raises InvalidArgument for several numbered directories side by side: those are versions,
    and an archive is one.
    """
    while True:
        children = list(unpacked.iterdir())
        if len(children) == 1 and children[0].is_dir():
            unpacked = children[0]
            continue
        if children and all(child.is_dir() and child.name.isdigit() for child in children):
            numbers = ", ".join(sorted(child.name for child in children))
            raise InvalidArgument(
                f"the archive holds several versions ({numbers}); an archive is one version"
            )
        return unpacked


def _match(uri: str) -> re.Match[str] | None:
    return _NAME.fullmatch(PurePosixPath(urlsplit(uri).path).name)


@contextmanager
def _translating(what: str) -> Iterator[None]:
    """What the readers of archives raise, said in one word."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataLoss(f"{what} can not be read: {type(error).__name__}") from error


def _opened(archive: Path, uri: str) -> tarfile.TarFile | zipfile.ZipFile:
    match = _match(uri)
    if match is None:
        raise InvalidArgument(f"{without_secrets(uri)} has no name of an archive")
    with _translating("the archive"):
        if match["format"].lower() == "zip":
            return zipfile.ZipFile(archive)
        if match["format"].lower() == "tar":
            return tarfile.open(archive, "r:")
        return tarfile.open(archive, "r:gz")


def _members(container: tarfile.TarFile | zipfile.ZipFile) -> Iterator[_Member]:
    with _translating("the archive"):
        if isinstance(container, zipfile.ZipFile):
            yield from _zip_members(container)
        else:
            yield from _tar_members(container)


def _checked(members: Iterable[_Member], most_bytes: int) -> list[_Member]:
    """All members, or InvalidArgument at the first that goes too far."""
    checked: dict[tuple[str, ...], _Member] = {}
    total = 0
    for member in members:
        parts = relative_parts(member.name)
        total += member.size_bytes
        if parts in checked:
            raise InvalidArgument(f"the archive holds {member.name!r} twice")
        if total > most_bytes or len(checked) >= _MOST_MEMBERS:
            raise InvalidArgument(
                f"the archive would unpack to more than {most_bytes} bytes or {_MOST_MEMBERS} files"
            )
        checked[parts] = member
    for parts in checked:
        if any(parts[:depth] in checked for depth in range(1, len(parts))):
            raise InvalidArgument(f"the archive holds {'/'.join(parts)!r} below a file")
    return list(checked.values())


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for member in tar:
        if member.isfile():
            yield _Member(member.name, member.size, partial(_extracted, tar, member))
        elif member.isdir():
            _check_directory(member.name)
        else:
            raise InvalidArgument(f"the archive holds {member.name!r}, a link or a device")


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise InvalidArgument(f"the archive holds {member.name!r}, which is no file")
    return content


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if member.flag_bits & 1:
            raise InvalidArgument(f"the archive holds {member.filename!r}, encrypted")
        if member.is_dir():
            _check_directory(member.filename)
        elif kind not in {0, stat.S_IFREG}:
            raise InvalidArgument(f"the archive holds {member.filename!r}, a link or a device")
        else:
            yield _Member(member.filename, member.file_size, partial(archive.open, member))


def _check_directory(name: str) -> None:
    """Directories are made for the files in them; here only their names must be harmless."""
    if name.strip("./") or name.startswith(("/", "..")):
        relative_parts(name)


def _write(member: _Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        for chunk in _chunks(member):
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())


def _chunks(member: _Member) -> Iterator[bytes]:
    """The content; the readers end at the declared size, and check what they can."""
    with _translating(f"{member.name!r} in the archive"), member.open() as content:
        while chunk := content.read(_CHUNK_BYTES):
            yield chunk
