"""Contents that stand under the name of a model and are none: each is to be refused, run by nobody.

None of them needs a framework to be made. Where one is unpickled or unpacked without care, it
writes ``canary``.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_BOMB_BYTES = 2**27  # packed, a thousandth of it


class _Writes:
    """What writes a file as it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self._file, "a model has run code")


def hostile_contents(canary: Path) -> Mapping[str, bytes]:
    """By what each is."""
    pickled = pickle.dumps(_Writes(canary), protocol=2)
    objects = np.array([_Writes(canary)], np.object_)
    array, arrays = io.BytesIO(), io.BytesIO()
    np.save(array, objects, allow_pickle=True)
    np.savez(arrays, objects)
    return {
        "pickle": pickled,
        "pickle of today": pickle.dumps(_Writes(canary), protocol=5),
        "compressed pickle": zlib.compress(pickled),
        "zipped pickle": gzip.compress(pickled),
        "array of objects": array.getvalue(),
        "arrays of objects": arrays.getvalue(),
        "archive of PyTorch": zipped({"archive/data.pkl": pickled, "archive/version": b"3\n"}),
        "archive of constants": zipped(
            {"m/data.pkl": pickled, "m/constants.pkl": pickled, "m/version": b"3\n"}
        ),
        "archive that leads out": zipped({f"../{canary.name}": b"x", str(canary): b"x"}),
        "archive with a link": linked(canary),
        "bomb": zipped(
            dict.fromkeys(("config.json", "schema.json", "model.json"), bytes(_BOMB_BYTES))
        ),
        "document of others": b'{"nodes": [], "heads": [[0, 0, 0]], "attrs": {}}',
        "page": b"<!DOCTYPE html><html><body>404</body></html>",
        "XML that names a file": (
            b'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
            b'<PMML version="4.4">&e;</PMML>'
        ),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(512),
        "message": bytes(range(256)) * 8,
    }


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def linked(canary: Path) -> bytes:
    """A link in a tar archive to a directory, and a file that lies behind it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(canary.parent)
        archive.addfile(link)
        behind = tarfile.TarInfo(f"out/{canary.name}")
        behind.size = 1
        archive.addfile(behind, io.BytesIO(b"x"))
    return file.getvalue()
