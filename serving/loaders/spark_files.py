"""The two folders that Spark saves a model in: what it says of itself, and one row of numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from serving.core.errors import InvalidArgument, NotFound
from serving.loaders.model_file import unreadable

MOST_EXPANSION = 20
"""How many times the size of its file the numbers of a model may be."""

_ALWAYS_ALLOWED_BYTES = 2**26
_MOST_METADATA_BYTES = 2**20
_BYTES_OF_A_NUMBER = 8
_DENSE = 1


def read_metadata(path: str) -> Mapping[str, Any]:
    """The JSON object in ``metadata/``. Raises InvalidArgument for anything else."""
    file = _part(path, "metadata", "*")
    try:
        if file.stat().st_size > _MOST_METADATA_BYTES:
            raise InvalidArgument("the model's metadata are too long to be Spark's")
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise unreadable(error) from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the model's metadata are no JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("class"), str):
        raise InvalidArgument("the model's metadata do not say of which class of Spark it is")
    return found


def read_row(path: str) -> Mapping[str, Any]:
    """The one row of the Parquet file in ``data/``; lists are arrays.

    Raises InvalidArgument for anything else, and for one whose numbers would be more than 64 MiB
    and more than twenty times the file: equal ones, and the zeros of a sparse matrix, are as many
    as it likes in a small file.
    """
    try:
        content = _part(path, "data", "*.parquet").read_bytes()
    except OSError as error:
        raise unreadable(error) from error
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        if file.metadata.num_rows != 1:
            raise InvalidArgument("the model's data are not the one row that Spark writes")
        most = max(_ALWAYS_ALLOWED_BYTES, MOST_EXPANSION * len(content)) // _BYTES_OF_A_NUMBER
        _check_count(_written(file.metadata), most)
        table = file.read()
        row = {name: _plain(table[name][0]) for name in table.column_names}
    except (pyarrow.ArrowException, OSError, KeyError, RecursionError) as error:
        raise InvalidArgument(f"the model's data are no whole Parquet file: {error}") from error
    for value in row.values():
        if isinstance(value, dict):
            _check_count(_meant(value), most)
    return row


def _written(metadata: Any) -> int:
    """How many numbers are in the file, however few bytes they are there."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return sum(
        group.column(number).num_values for group in groups for number in range(group.num_columns)
    )


def _meant(value: Mapping[str, Any]) -> int:
    """How many numbers a sparse vector or matrix is with its zeros."""
    size, rows, columns = (value.get(name) or 0 for name in ("size", "numRows", "numCols"))
    if not all(isinstance(each, int) for each in (size, rows, columns)):
        raise InvalidArgument("the model's data have sizes that are no integers")
    return max(size, rows, columns, rows * columns)


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise InvalidArgument(
            f"the model's data would be {count} numbers, which is more than a file of this size has"
        )


def _plain(scalar: Any) -> Any:
    if scalar.is_valid and isinstance(scalar, pyarrow.StructScalar):
        return {name: _plain(scalar[name]) for name in scalar}
    if scalar.is_valid and isinstance(scalar, pyarrow.ListScalar):
        return scalar.values.to_numpy(zero_copy_only=False)
    return scalar.as_py()


def vector(value: Any) -> np.ndarray:
    """Spark's dense or sparse vector as doubles of the shape (size,).

    Raises KeyError, TypeError, ValueError or IndexError for what is none.
    """
    if value["type"] == _DENSE:
        return np.array(value["values"], np.float64)
    made = np.zeros(value["size"])
    made[value["indices"]] = value["values"]
    return made


def matrix(value: Any) -> np.ndarray:
    """Spark's dense or sparse matrix as doubles of the shape (rows, columns). Raises as above."""
    shape = value["numRows"], value["numCols"]
    turned = shape if value["isTransposed"] else shape[::-1]
    values = np.array(value["values"], np.float64)
    if value["type"] == _DENSE:
        made = values.reshape(turned)
    else:
        made = np.zeros(turned)
        pointers = np.array(value["colPtrs"], np.int64)
        counts = pointers[1:] - pointers[:-1]
        if (counts < 0).any() or counts.sum() != len(values):
            raise ValueError("the columns do not have as many values as there are")
        made[np.repeat(np.arange(turned[0]), counts), value["rowIndices"]] = values
    return made if value["isTransposed"] else made.T


def _part(path: str, folder: str, pattern: str) -> Path:
    """The one file with rows; Spark's marks and checksums begin with other letters."""
    try:
        found = [file for file in Path(path, folder).glob(f"part-{pattern}") if file.is_file()]
    except OSError as error:
        raise unreadable(error) from error
    if len(found) != 1:
        raise NotFound(
            f"a model of Spark has one file {folder}/part-{pattern}, but there are {len(found)}"
        )
    return found[0]
