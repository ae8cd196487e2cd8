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

_MOST_BYTES = 2**31
_MOST_METADATA_BYTES = 2**20
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
    """The one row of the Parquet file in ``data/``. Raises InvalidArgument for anything else."""
    try:
        content = _part(path, "data", "*.parquet").read_bytes()
    except OSError as error:
        raise unreadable(error) from error
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        groups = [file.metadata.row_group(each) for each in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows != 1 or sum(g.total_byte_size for g in groups) > _MOST_BYTES:
            raise InvalidArgument("the model's data are not the one row that Spark writes")
        row: Mapping[str, Any] = file.read().to_pylist()[0]
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidArgument(f"the model's data are no whole Parquet file: {error}") from error
    return row


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
        counts = np.diff(value["colPtrs"])
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
