"""CNTK's models, written function by function, for the tests that serve them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.generated.cntk_model_pb2 import (
    Axis,
    Dictionary,
    DictionaryValue,
    DoubleValues,
    FloatValues,
    NDArrayView,
    NDShape,
    Vector,
)

BATCH = Axis(static_axis_idx=2**31 - 1, name="defaultBatchAxis")
SEQUENCE = Axis(static_axis_idx=2**31 - 1, name="defaultDynamicAxis", is_ordered_dynamic_axis=True)
FREE = 2**64 - 3


@dataclass(frozen=True)
class Shape:
    """Sizes in CNTK's order."""

    sizes: tuple[int, ...]


def axis(index: int) -> Axis:
    return Axis(static_axis_idx=index, name=f"staticAxis_{index}")


def value(given: Any) -> DictionaryValue:
    """As CNTK writes what is a number, a text, a list and so on; whole numbers as its size_t."""
    if isinstance(given, DictionaryValue):
        return given
    number, kind, make = _KINDS[type(given)]
    return DictionaryValue(version=1, value_type=number, **{kind: make(given)})


def signed(number: int) -> DictionaryValue:
    """What is an int in CNTK."""
    return DictionaryValue(version=1, value_type=2, int_value=number)


def dictionary(values: Mapping[str, Any]) -> Dictionary:
    return Dictionary(version=1, data={key: value(each) for key, each in values.items()})


def variable(
    uid: str, sizes: Iterable[int], kind: int = 0, axes: Sequence[Axis] = (BATCH,), **more: Any
) -> dict[str, Any]:
    """One of ``sizes`` in numpy's order; an input unless ``kind`` says otherwise."""
    return {
        "version": 1,
        "type": "Variable",
        "uid": uid,
        "kind": kind,
        "data_type": 1,
        "dynamic_axis": list(axes),
        "is_sparse": False,
        "name": uid,
        "needs_gradient": False,
        "shape": Shape(tuple(sizes)[::-1]),
        **more,
    }


def weight(uid: str, values: np.ndarray) -> dict[str, Any]:
    number = {"float32": 1, "float64": 2}[values.dtype.name]
    return variable(uid, values.shape, 2, [], value=values, data_type=number)


def function(
    uid: str, op: int, inputs: Sequence[str], name: str = "", **attributes: Any
) -> dict[str, Any]:
    return {
        "version": 18,
        "type": "PrimitiveFunction",
        "uid": uid,
        "op": op,
        "inputs": list(inputs),
        "attributes": attributes,
        **({"name": name} if name else {}),
    }


def model(
    root: str, functions: Sequence[Mapping[str, Any]], variables: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What a file is a dictionary of."""
    return {
        "version": 1,
        "type": "CompositeFunction",
        "root": root,
        "uid": "Composite1",
        "name": "",
        "primitive_functions": list(functions),
        "inputs": list(variables),
        "state": {},
    }


def content(document: Mapping[str, Any]) -> bytes:
    """What the file has in it."""
    return dictionary(document).SerializeToString()


def _view(values: np.ndarray) -> NDArrayView:
    shape = NDShape(shape_dim=values.shape[::-1])
    flat = values.ravel().tolist()
    if values.dtype == np.float64:
        return NDArrayView(data_type=2, shape=shape, double_values=DoubleValues(value=flat))
    return NDArrayView(data_type=1, shape=shape, float_values=FloatValues(value=flat))


_KINDS: Mapping[type, tuple[int, str, Callable[[Any], Any]]] = {
    bool: (1, "bool_value", bool),
    int: (3, "size_t_value", int),
    float: (5, "double_value", float),
    str: (6, "string_value", str),
    Shape: (7, "nd_shape_value", lambda shape: NDShape(shape_dim=shape.sizes)),
    Axis: (8, "axis_value", lambda axis: axis),
    list: (9, "vector_value", lambda values: Vector(value=map(value, values))),
    dict: (10, "dictionary_value", dictionary),
    np.ndarray: (11, "nd_array_view_value", _view),
}
"""CNTK's number of a kind, its field and what it holds."""
