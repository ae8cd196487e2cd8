"""Models in MXNet's formats, written without MXNet."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
OLDEST = 0
FLAGS = {
    "float32": 0,
    "float64": 1,
    "float16": 2,
    "uint8": 3,
    "int32": 4,
    "int8": 5,
    "int64": 6,
    "bool": 7,
}


def array_bytes(array: np.ndarray, form: int = V2) -> bytes:
    """One array as that version of MXNet has it in a file."""
    if form == OLDEST:
        head = struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
    else:
        storage = struct.pack("<i", 0) if form in (V2, V3) else b""
        shape = struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
        head = struct.pack("<I", form) + storage + shape
    return head + struct.pack("<iii", 1, 0, FLAGS[array.dtype.name]) + array.tobytes()


def params_bytes(arrays: Mapping[str, np.ndarray], form: int = V2) -> bytes:
    """A file of arrays by name; the names need ``arg:`` or ``aux:`` before them, as MXNet's do."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    parts += [array_bytes(array, form) for array in arrays.values()]
    parts.append(struct.pack("<Q", len(arrays)))
    parts += [struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays]
    return b"".join(parts)


def node(op: str, name: str, *inputs: Sequence[int], **attributes: str) -> dict[str, Any]:
    """``inputs``: number of the node and of its output."""
    listed = [[number, index, 0] for number, index in inputs]
    return {"op": op, "name": name, "attrs": attributes, "inputs": listed}


def variable(name: str, **attributes: str) -> dict[str, Any]:
    return node("null", name, **attributes)


def write(
    directory: Path,
    nodes: Sequence[Mapping[str, Any]],
    arrays: Mapping[str, np.ndarray],
    heads: Sequence[Sequence[int]] = (),
    prefix: str = "model",
) -> None:
    """A version with these nodes, whose last one is what it gives unless there are ``heads``."""
    document = {
        "nodes": list(nodes),
        "arg_nodes": [number for number, each in enumerate(nodes) if each["op"] == "null"],
        "heads": [list(head) for head in heads] or [[len(nodes) - 1, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10901]},
    }
    (directory / f"{prefix}-symbol.json").write_text(json.dumps(document))
    (directory / f"{prefix}-0000.params").write_bytes(params_bytes(arrays))


WEIGHT = np.array([[2, 3]], np.float32)
BIAS = np.array([4], np.float32)


def write_regression(directory: Path, **changed: np.ndarray) -> None:
    """``data`` · [2, 3] + 4, as a linear regression that takes labels while it is trained."""
    nodes = [
        variable("data"),
        variable("fc1_weight"),
        variable("fc1_bias"),
        node("FullyConnected", "fc1", (0, 0), (1, 0), (2, 0), num_hidden="1"),
        variable("lin_reg_label"),
        node("LinearRegressionOutput", "lro", (3, 0), (4, 0)),
    ]
    arrays = {"arg:fc1_weight": WEIGHT, "arg:fc1_bias": BIAS}
    write(directory, nodes, arrays | {f"arg:{name}": each for name, each in changed.items()})
