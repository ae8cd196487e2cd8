"""Brings one file of a version onto disk, whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from serving.core.errors import DataLoss, Unavailable
from serving.sources.storage import RemoteStorage, StoredFile, without_secrets

ATTEMPTS = 4
"""How often a file is asked for, each time from where the last transfer was cut."""

Pause = Callable[[int], None]
"""Called with 0 as data comes in, and with the number of failures before the next attempt: waits
as long as it sees fit, and raises to give up.
"""


def download(storage: RemoteStorage, file: StoredFile, target: Path, pause: Pause) -> None:
    """Write the file to ``target``, which must not exist; its directories are made.

    Raises Unavailable when the transfer was cut :data:`ATTEMPTS` times, DataLoss when the content
    is not what the store says it is, OSError when ``target`` cannot be written.
    """
    digest = storage.digest(file)
    received = _Received(hashlib.new(digest.algorithm, usedforsecurity=False) if digest else None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        _receive(storage, file, received, out, pause)
        out.flush()
        os.fsync(out.fileno())
    if digest and received.hash and received.hash.digest() != digest.value:
        raise DataLoss(
            f"{without_secrets(file.uri)} arrived with another {digest.algorithm} than its store"
            " says it has"
        )


class _Received:
    """How much has arrived, over all attempts, and what it hashes to."""

    def __init__(self, hash_: hashlib._Hash | None) -> None:
        self.size_bytes = 0
        self.hash = hash_

    def add(self, chunk: bytes) -> None:
        self.size_bytes += len(chunk)
        if self.hash:
            self.hash.update(chunk)


def _receive(
    storage: RemoteStorage, file: StoredFile, received: _Received, out: BinaryIO, pause: Pause
) -> None:
    for failures in range(1, ATTEMPTS + 1):
        try:
            for chunk in storage.read(file, received.size_bytes):
                out.write(chunk)
                received.add(chunk)
                pause(0)
            _check_size(file, received.size_bytes)
        except Unavailable as error:
            if failures == ATTEMPTS:
                raise Unavailable(
                    f"downloading {without_secrets(file.uri)} failed {ATTEMPTS} times:"
                    f" {error.message}"
                ) from error
            pause(failures)
        else:
            return


def _check_size(file: StoredFile, received_bytes: int) -> None:
    if file.size_bytes is not None and received_bytes != file.size_bytes:
        raise Unavailable(f"the transfer ended after {received_bytes} of {file.size_bytes} bytes")
