"""Zip archives, held against what they would fill when unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from serving.core.errors import InvalidArgument
from serving.loaders.model_file import unreadable

_MOST_EXPANSION = 20  # what is compressed in a model is mostly weights, which hardly get smaller
_ALWAYS_ALLOWED_BYTES = 2**26


def check_archive(file: Path, kind: str) -> None:
    """Raise InvalidArgument for what would fill memory or disk, or is no archive, so no ``kind``.

    An archive may be unpacked to 64 MiB, and to twenty times its size where that is more.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            size_bytes = sum(member.file_size for member in archive.infolist())
        limit = max(_ALWAYS_ALLOWED_BYTES, _MOST_EXPANSION * file.stat().st_size)
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise InvalidArgument(f"{file.name} is no {kind}, or not all of one") from None
    except OSError as error:
        raise unreadable(error) from error
    if size_bytes > limit:
        raise InvalidArgument(
            f"{file.name} would be unpacked to {size_bytes} bytes, "
            f"more than {_MOST_EXPANSION} times its size"
        )
