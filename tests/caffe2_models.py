"""Caffe2's nets, written operator by operator, for the tests that serve them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.generated.caffe2_net_pb2 import Argument, NetDef, OperatorDef

FLOAT = 1
_FILLS = {
    "float32": ("GivenTensorFill", "floats"),
    "int32": ("GivenTensorIntFill", "ints"),
    "int64": ("GivenTensorInt64Fill", "ints"),
    "bool": ("GivenTensorBoolFill", "ints"),
}


def argument(name: str, value: Any) -> Argument:
    """Whole numbers, numbers, texts, and lists of the first two, each in its field."""
    match value:
        case float():
            return Argument(name=name, f=value)
        case int():
            return Argument(name=name, i=value)
        case str():
            return Argument(name=name, s=value.encode())
        case [float(), *_]:
            return Argument(name=name, floats=value)
    return Argument(name=name, ints=value)


def operator(
    op_type: str, inputs: Sequence[str], outputs: Sequence[str], **arguments: Any
) -> OperatorDef:
    listed = [argument(name, value) for name, value in arguments.items()]
    return OperatorDef(type=op_type, input=inputs, output=outputs, arg=listed)


def fill(name: str, values: np.ndarray) -> OperatorDef:
    """The operator that makes a weight."""
    op_type, kind = _FILLS[values.dtype.name]
    given = Argument(name="values", **{kind: values.ravel().tolist()})
    shape = Argument(name="shape", ints=values.shape)
    return OperatorDef(type=op_type, output=[name], arg=[shape, given])


def save(
    directory: Path,
    operators: Sequence[OperatorDef],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
) -> Path:
    """Write a version directory as GraphPipe took it; ``inputs`` are the sizes of floats."""
    directory.mkdir(parents=True, exist_ok=True)
    init = NetDef(name="init", op=[fill(name, values) for name, values in weights.items()])
    predict = NetDef(
        name="predict",
        op=operators,
        external_input=[*inputs, *weights],
        external_output=outputs,
    )
    (directory / "init_net.pb").write_bytes(init.SerializeToString())
    (directory / "predict_net.pb").write_bytes(predict.SerializeToString())
    described = {name: [FLOAT, list(sizes)] for name, sizes in inputs.items()}
    (directory / "value_inputs.json").write_text(json.dumps(described))
    return directory
