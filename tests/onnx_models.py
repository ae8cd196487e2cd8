"""ONNX models, written node by node, for the tests that serve them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET = 21
IR_VERSION = 10  # what is newest for onnx may be too new for onnxruntime


def value(
    name: str, dtype: int = TensorProto.FLOAT, shape: Sequence[int | str | None] | None = ("n",)
) -> Any:
    """An input or output; a text or None as a size is any size, no shape at all is any rank."""
    return helper.make_tensor_value_info(name, dtype, shape)


def save(
    directory: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Sequence[Any] = (),
    *,
    file: str = "model.onnx",
    weights_file: str = "",
    ir_version: int = IR_VERSION,
) -> Path:
    """Write a version directory; the weights go into a file of their own where that has a name."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = ir_version
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(
        model,
        str(directory / file),
        save_as_external_data=bool(weights_file),
        location=weights_file or None,
        size_threshold=0,
    )
    return directory


def constant(name: str, values: object) -> Any:
    """A weight, float32 unless the values are an array of another type."""
    array = values if isinstance(values, np.ndarray) else np.array(values, np.float32)
    return onnx.numpy_helper.from_array(array, name)


def half_plus_two(directory: Path, **options: object) -> Path:
    """Half plus two: y = x / 2 + 2, for rows of one float."""
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["halves"]),
        helper.make_node("Add", ["halves", "two"], ["y"]),
    ]
    rows = ("batch", 1)
    weights = [constant("half", 0.5), constant("two", 2.0)]
    return save(
        directory, nodes, [value("x", shape=rows)], [value("y", shape=rows)], weights, **options
    )


def identity(directory: Path, dtype: int) -> Path:
    """The same as it was given: y = x, of any length."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return save(directory, nodes, [value("x", dtype)], [value("y", dtype)])


def rows_of_run(directory: Path) -> Path:
    """``x`` [rows] floats → ``x_again``, the same, and ``rows`` [rows]: how many the run has."""
    nodes = [
        helper.make_node("Identity", ["x"], ["x_again"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Expand", ["shape", "shape"], ["rows"]),
    ]
    outputs = [value("x_again"), value("rows", TensorProto.INT64)]
    return save(directory, nodes, [value("x")], outputs)


def loop_body() -> Any:
    """The graph of one round, which hands on what it gets."""
    scalar: tuple[int, ...] = ()
    return helper.make_graph(
        [
            helper.make_node("Identity", ["going_on"], ["goes_on"]),
            helper.make_node("Identity", ["before"], ["after"]),
        ],
        "body",
        [
            value("round", TensorProto.INT64, scalar),
            value("going_on", TensorProto.BOOL, scalar),
            value("before"),
        ],
        [value("goes_on", TensorProto.BOOL, scalar), value("after")],
    )


def endless(directory: Path) -> Path:
    """The same as it was given, after more rounds of a loop than anybody waits for."""
    nodes = [helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=loop_body())]
    rounds = constant("rounds", np.array(2**62, np.int64))
    return save(directory, nodes, [value("x")], [value("y")], [rounds])


def loop_in_a_branch(directory: Path) -> Path:
    """The same as it was given, after as many rounds as ``rounds`` says where ``loops`` is true."""
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["looped"], body=loop_body())
    branches = {
        "then_branch": helper.make_graph([loop], "then", [], [value("looped")]),
        "else_branch": helper.make_graph(
            [helper.make_node("Identity", ["x"], ["same"])], "else", [], [value("same")]
        ),
    }
    inputs = [
        value("loops", TensorProto.BOOL, ()),
        value("rounds", TensorProto.INT64, ()),
        value("x"),
    ]
    nodes = [helper.make_node("If", ["loops"], ["y"], **branches)]
    return save(directory, nodes, inputs, [value("y")])


def branches(directory: Path) -> Path:
    """x, or 0 where ``gives`` is false; neither of which takes long."""
    then = helper.make_graph([helper.make_node("Identity", ["x"], ["a"])], "t", [], [value("a")])
    other = helper.make_graph([helper.make_node("Sub", ["x", "x"], ["b"])], "o", [], [value("b")])
    nodes = [helper.make_node("If", ["gives"], ["y"], then_branch=then, else_branch=other)]
    return save(directory, nodes, [value("gives", TensorProto.BOOL, ()), value("x")], [value("y")])
