"""``pytorch.json``, and models that compute in another type than the one they were saved in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from serving.core.servable import TensorInfo
from serving.loaders.pytorch_tensors import ELEMENT_TYPES
from serving.loaders.settings_file import check_choice, read_settings

SETTINGS_FILE = "pytorch.json"

_DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_BY_ELEMENT_TYPE = {dtype: kind for kind, dtype in ELEMENT_TYPES.items()}
_CHECK = torch.ops.aten._assert_tensor_metadata.default  # noqa: SLF001 - what torch.export writes


@dataclass(frozen=True, slots=True)
class PyTorchSettings:
    """``dtype``: what floating numbers are computed in; the empty string leaves the model's own.

    Raises InvalidArgument, naming the value, for one that is none.
    """

    dtype: str = ""

    def __post_init__(self) -> None:
        check_choice(SETTINGS_FILE, "dtype", self.dtype, tuple(_DTYPES))


def read_dtype(directory: str) -> torch.dtype | None:
    """The type that the file of a version asks for, if it does.

    Raises InvalidArgument for a file that is not as documented.
    """
    return _DTYPES.get(read_settings(directory, SETTINGS_FILE, PyTorchSettings).dtype)


def convert_graph(module: Any, dtype: torch.dtype) -> None:
    """Have a module of torch.export's compute in ``dtype``: its weights, its other tensors, and the
    types that its operators name or would take by themselves.
    """
    module.to(dtype)
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(part, name, value.to(dtype))
        for node in list(part.graph.nodes):
            if node.target is _CHECK:
                part.graph.erase_node(node)  # it holds values against the types there were
            elif node.op == "call_function":
                _convert_node(node, dtype)
        part.recompile()


def inputs_in(
    tensors: Mapping[str, torch.Tensor], dtype: torch.dtype
) -> Mapping[str, torch.Tensor]:
    """With those that are floating in ``dtype``."""
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def outputs_as(outputs: Mapping[str, TensorInfo], given: Sequence[object]) -> Sequence[object]:
    """With those that are floating in the types that a signature says; one says none of others."""
    infos = list(outputs.values())
    return [
        value.to(_BY_ELEMENT_TYPE.get(infos[index].dtype, value.dtype))
        if index < len(infos) and isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for index, value in enumerate(given)
    ]


def _convert_node(node: torch.fx.Node, dtype: torch.dtype) -> None:
    def other(value: Any) -> Any:
        is_floating = isinstance(value, torch.dtype) and value.is_floating_point
        return dtype if is_floating else value

    node.args = torch.fx.node.map_aggregate(node.args, other)
    node.kwargs = torch.fx.node.map_aggregate(node.kwargs, other)
    made = node.meta.get("val")
    if not isinstance(node.target, torch._ops.OpOverload) or not _is_floating(made):  # noqa: SLF001 - as below
        return
    names = [argument.name for argument in node.target._schema.arguments]  # noqa: SLF001 - nothing else tells
    if "dtype" in names[len(node.args) :] and node.kwargs.get("dtype") is None:
        node.kwargs = {**node.kwargs, "dtype": dtype}


def _is_floating(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
