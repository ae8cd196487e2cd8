"""The files of a Caffe2 model: two nets, and what requests bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from serving.core.dtypes import dtype_of
from serving.core.errors import InvalidArgument, NotFound
from serving.core.servable import TensorInfo
from serving.generated.caffe2_net_pb2 import NetDef
from serving.loaders.caffe2_weights import DATA_TYPES
from serving.loaders.model_file import read_model, unreadable

INIT_NET, PREDICT_NET = "init_net.pb", "predict_net.pb"
VALUE_INPUTS = "value_inputs.json"


def read_nets(path: str) -> tuple[NetDef, NetDef]:
    """The net that makes the weights, and the one that computes with them.

    Raises NotFound where one of the two files is missing, InvalidArgument for one that is no net.
    """
    init, predict = _net(Path(path) / INIT_NET), _net(Path(path) / PREDICT_NET)
    if not predict.op:
        raise InvalidArgument(f"{PREDICT_NET} has no operators")
    return init, predict


def net_files(path: str) -> list[Path]:
    """The two files. Raises as above."""
    files = [Path(path) / INIT_NET, Path(path) / PREDICT_NET]
    for file in files:
        _check_there(file)
    return files


def _check_there(file: Path) -> None:
    try:
        there = file.is_file()
    except OSError as error:
        raise unreadable(error) from error
    if not there:
        raise NotFound(f"a version is {INIT_NET} and {PREDICT_NET}, but there is no {file.name}")


def _net(file: Path) -> NetDef:
    _check_there(file)
    net = NetDef()
    try:
        net.ParseFromString(read_model(file))
    except DecodeError as error:
        raise InvalidArgument(f"{file.name} is no NetDef of Caffe2, or is damaged") from error
    return net


def value_inputs(path: str) -> Mapping[str, TensorInfo] | None:
    """What ``value_inputs.json`` says of the inputs, as GraphPipe read it: the number of Caffe2's
    element type and the sizes, by name. None without the file.

    Raises InvalidArgument, naming the place in the file, for one that says something else.
    """
    try:
        text = (Path(path) / VALUE_INPUTS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{VALUE_INPUTS} is not UTF-8") from error
    except OSError as error:
        raise unreadable(error) from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{VALUE_INPUTS} is no JSON: {error}") from error
    if not isinstance(document, dict) or not document:
        raise InvalidArgument(f"{VALUE_INPUTS} must be an object with a name for each input")
    return {name: _input(name, value) for name, value in document.items()}


def _input(name: str, value: Any) -> TensorInfo:
    match value:
        case [int(number), [*sizes]] if number in DATA_TYPES and all(map(_is_size, sizes)):
            shape = tuple(None if size == -1 else size for size in sizes)
            return TensorInfo(name, dtype_of(np.empty(0, DATA_TYPES[number])), shape)
    raise InvalidArgument(
        f"{VALUE_INPUTS}: {name} must be [element type, [sizes]], the type as the number that "
        f"Caffe2 has for it, not {json.dumps(value)[:80]}"
    )


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= -1
