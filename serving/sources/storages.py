"""The table of storages, and the one place that imports them: when they are first needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from serving.core.errors import InvalidArgument
from serving.sources.storage import RemoteStorage, Storage, is_remote, scheme_of

_LOCAL = "serving.sources.local_storage:LocalStorage"
_HTTP = "serving.sources.http_storage:HttpStorage"
_FSSPEC = "serving.sources.fsspec_storage:FsspecStorage"

STORAGES: Mapping[str, str] = {
    "file": _LOCAL,
    "http": _HTTP,
    "https": _HTTP,
    "s3": _FSSPEC,
    "s3a": _FSSPEC,
    "gs": _FSSPEC,
    "gcs": _FSSPEC,
    "abfs": _FSSPEC,
    "abfss": _FSSPEC,
    "az": _FSSPEC,
    "hdfs": _FSSPEC,
}
"""Scheme of a URI → module and class. A path without a scheme is a ``file``."""


def storage_for(uri: str) -> Storage:
    """What lists this path or URI; raises InvalidArgument for an unknown scheme.

    Local paths import neither fsspec nor an HTTP client.
    """
    scheme = scheme_of(uri) or "file"
    if scheme not in STORAGES:
        known = ", ".join(sorted(STORAGES))
        raise InvalidArgument(f"there is no storage for {scheme}://; there are: {known}")
    module, _, name = STORAGES[scheme].partition(":")
    return cast(Storage, getattr(importlib.import_module(module), name)())


def remote_storage_for(uri: str) -> RemoteStorage:
    """What reads this URI; raises InvalidArgument for an unknown scheme and for local files."""
    if not is_remote(uri):
        raise InvalidArgument(f"{uri} is not remote")
    return cast(RemoteStorage, storage_for(uri))
