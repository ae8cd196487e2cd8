"""Lookup tables: a CSV file of ``key,value`` lines, served through Predict.

The smallest platform there is, and the one to read before writing another.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument, NotFound, ServingError
from serving.core.resources import ResourceAllocation
from serving.core.servable import (
    DEFAULT_SIGNATURE,
    RunCallback,
    RunOptions,
    Signature,
    TensorInfo,
)
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device, no_such_device

_SIGNATURE = Signature(
    inputs={"keys": TensorInfo("keys", DType.STRING, (None,))},
    outputs={
        "found": TensorInfo("found", DType.BOOL, (None,)),
        "values": TensorInfo("values", DType.STRING, (None,)),
    },
    method_name="tensorflow/serving/predict",
)


class HashmapPlatform:
    """Loads a CSV file, or the one ``*.csv`` file in a version directory."""

    def estimate(self, path: str) -> ResourceAllocation:
        """Three times the file's size: two copies of the text and the table.

        Raises InvalidArgument for a file that can not be looked at.
        """
        try:
            return ResourceAllocation.ram(3 * _csv_file(path).stat().st_size)
        except OSError as error:
            raise InvalidArgument(f"the table can not be read: {error.strerror}") from error

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> HashmapServable:
        """Read the table; raises InvalidArgument for a line that is not ``key,value``."""
        if device not in (None, CPU):
            raise no_such_device(servable_id, device, [CPU])
        try:
            with _csv_file(path).open(newline="", encoding="utf-8") as lines:
                return HashmapServable(_read_table(lines))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            raise InvalidArgument(
                f"the table of {servable_id} can not be read: {reason}"
            ) from error


class HashmapServable:
    """Looks keys up: ``values`` holds the value of each key, or "" where ``found`` is false."""

    may_run_long = False

    def __init__(self, table: Mapping[bytes, bytes]) -> None:
        self._table = table
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: _SIGNATURE}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,  # noqa: ARG002  # a look-up is over before any deadline
        done: RunCallback,
    ) -> None:
        """Look up ``keys`` of any shape; both outputs have the same shape."""
        try:
            outputs = self._look_up(feeds["keys"])
            result = [outputs[fetch] for fetch in fetches]
        except ServingError as error:
            done(error)
        except KeyError as error:
            done(InvalidArgument(f"a lookup table has no tensor called {error}"))
        else:
            done(result)

    def close(self) -> None:
        """Let go of the table."""
        self._table = {}

    def _look_up(self, keys: np.ndarray) -> dict[str, np.ndarray]:
        if keys.dtype != np.object_:
            raise InvalidArgument(f"keys must be strings, not {keys.dtype}")
        flat = [self._table.get(key) for key in keys.flat]
        values = np.array([value or b"" for value in flat], np.object_)
        found = np.array([value is not None for value in flat], np.bool_)
        return {"values": values.reshape(keys.shape), "found": found.reshape(keys.shape)}


def _csv_file(path: str) -> Path:
    given = Path(path)
    if not given.is_dir():
        return given
    # Not a glob, which passes over a directory that may not be read.
    candidates = [child for child in given.iterdir() if child.suffix == ".csv"]
    if len(candidates) != 1:
        raise NotFound(f"a lookup table is one .csv file, but there are {len(candidates)}")
    return candidates[0]


def _read_table(lines: Iterable[str]) -> dict[bytes, bytes]:
    table = {}
    for row in csv.reader(lines):
        if len(row) != 2:
            raise InvalidArgument("Unexpected format.")
        table[row[0].encode()] = row[1].encode()
    return table
