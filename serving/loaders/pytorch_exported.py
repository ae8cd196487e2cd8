"""Programs that ``torch.export`` has written, ``.pt2`` files: loaded, and described."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, TensorArgument
from torch.export.passes import move_to_device_pass
from torch.export.pt2_archive._package import load_pt2
from torch.utils import _pytree as pytree

from serving.core.errors import InvalidArgument
from serving.core.servable import Signature, TensorInfo
from serving.loaders.pytorch_archive import check_exported
from serving.loaders.pytorch_program import PyTorchProgram
from serving.loaders.pytorch_tensors import element_type

_NAME = "model"
_LOOPS = frozenset({"while_loop", "scan", "associative_scan", "map_impl"})
_ANY_BATCH = 2
"""Programs that were exported with sizes from 2 upwards take 0 and 1 as well."""


_loading = threading.Lock()
"""PyTorch keeps what it is deserializing in a global variable."""
_NO_LIMITS = (0, math.inf)


def load_exported(file: Path, device: torch.device) -> PyTorchProgram:
    """The program on the device, with the names, types and shapes that it was exported with.

    Thread-safe: one program is loaded at a time.

    Inputs are called as torch.export calls its placeholders, which is as the parameters of
    ``forward``. Outputs are called by their keys where they are a dict, else ``output_0``,
    ``output_1`` …; where they are nested, by all keys and indices joined by ``_``. Raises
    InvalidArgument for a file that is not safe to read or has other inputs and outputs than
    tensors, and what PyTorch raises.
    """
    with _loading, file.open("rb") as content:
        check_exported(content)
        content.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # torch.export.load would go on to an older form, and its pickles, where this raises.
            return _program(load_pt2(content).exported_programs[_NAME], device)


def _program(exported: ExportedProgram, device: torch.device) -> PyTorchProgram:
    signature = signature_of(exported)
    shapes = dict(_input_shapes(exported))
    exported = move_to_device_pass(exported, device)
    nodes = [node for module in _graphs(exported) for node in module.graph.nodes]
    return PyTorchProgram(
        signature,
        _function(exported),
        writes_in_place=any(_writes(node.target) for node in nodes),
        may_run_long=any(getattr(node.target, "__name__", "") in _LOOPS for node in nodes),
        check_shapes=_constraints(exported, shapes),
    )


def signature_of(exported: ExportedProgram) -> Signature:
    """What the program takes and gives; None for sizes that are symbols.

    Raises InvalidArgument naming the input or output that is no tensor of a supported type, unless
    it is an input with one value, which is that whatever a request says.
    """
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    user_inputs = [spec.arg for spec in exported.graph_signature.input_specs if _is_user(spec)]
    inputs = {
        each.name: _tensor_info("input", each.name, each, values)
        for each in user_inputs
        if not isinstance(each, ConstantArgument)
    }
    user_outputs = [spec.arg for spec in exported.graph_signature.output_specs if _is_user(spec)]
    names = _output_names(exported.call_spec.out_spec)
    outputs = {
        name: _tensor_info("output", name, each, values)
        for name, each in zip(names, user_outputs, strict=True)
    }
    if len(outputs) != len(names):
        raise InvalidArgument(f"two outputs are called the same: {', '.join(sorted(names))}")
    return Signature(inputs, outputs, method_name="tensorflow/serving/predict")


def _is_user(spec: Any) -> bool:
    return spec.kind.name in ("USER_INPUT", "USER_OUTPUT")


def _tensor_info(role: str, name: str, argument: Any, values: Mapping[str, Any]) -> TensorInfo:
    if not isinstance(argument, TensorArgument):
        raise InvalidArgument(f"{role} '{name}' is no tensor")
    value = values[argument.name]
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorInfo(name, element_type(f"{role} '{name}'", value.dtype), shape)


def _output_names(structure: pytree.TreeSpec) -> list[str]:
    tree = pytree.tree_unflatten(range(structure.num_leaves), structure)
    leaves, _ = pytree.tree_flatten_with_path(tree)
    return [_path_text(path) or "output_0" for path, _ in leaves]


def _path_text(path: Sequence[Any]) -> str:
    """``scores_0`` for ``["scores"][0]``; a name that begins with an index is an output's."""
    parts = [str(getattr(step, "key", getattr(step, "idx", ""))) for step in path]
    if path and isinstance(path[0], pytree.SequenceKey):
        parts.insert(0, "output")
    return "_".join(parts)


def _function(
    exported: ExportedProgram,
) -> Callable[[Mapping[str, torch.Tensor]], Sequence[object]]:
    """The program as a function of its inputs that are tensors; the others have their one value."""
    # The guards are Python code from the file; _constraints looks at the sizes instead.
    module: Any = exported.module(check_guards=False)
    module.validate_inputs = False
    structure = exported.call_spec.in_spec
    arguments = [spec.arg for spec in exported.graph_signature.input_specs if _is_user(spec)]
    constants = {each.name: each.value for each in arguments if isinstance(each, ConstantArgument)}
    names = [each.name for each in arguments]

    def run(tensors: Mapping[str, torch.Tensor]) -> Sequence[object]:
        leaves = [tensors[name] if name in tensors else constants[name] for name in names]
        args, kwargs = pytree.tree_unflatten(leaves, structure)
        outputs: Sequence[object] = pytree.tree_leaves(module(*args, **kwargs))
        return outputs

    return run


def _graphs(exported: ExportedProgram) -> Iterator[torch.fx.GraphModule]:
    """The program's graph, and those of its branches and loops."""
    for module in exported.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield module


def _writes(target: object) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable  # noqa: SLF001 - nothing else tells


def _input_shapes(exported: ExportedProgram) -> Iterator[tuple[str, Sequence[int | str]]]:
    """Each input's sizes, numbers or symbols, as texts."""
    inputs = set(exported.graph_signature.user_inputs)
    for node in exported.graph.nodes:
        if node.op == "placeholder" and node.name in inputs and hasattr(node.meta["val"], "shape"):
            yield (
                node.name,
                [size if isinstance(size, int) else str(size) for size in node.meta["val"].shape],
            )


def _constraints(
    exported: ExportedProgram, shapes: Mapping[str, Sequence[int | str]]
) -> Callable[[Mapping[str, Sequence[int]]], None]:
    """What sees that sizes of the same symbol are the same, and in its range."""
    symbols = [
        (size, name, dimension)
        for name, shape in shapes.items()
        for dimension, size in enumerate(shape)
        if isinstance(size, str)
    ]
    limits = {str(symbol): _limits(each) for symbol, each in exported.range_constraints.items()}

    def check(given: Mapping[str, Sequence[int]]) -> None:
        found: dict[str, tuple[int, str, int]] = {}
        for symbol, name, dimension in symbols:
            size = given[name][dimension]
            known, other, its_dimension = found.setdefault(symbol, (size, name, dimension))
            if size != known:
                raise InvalidArgument(
                    f"dimension {dimension} of input '{name}' must be as dimension "
                    f"{its_dimension} of input '{other}', which is {known}, but is {size}"
                )
            least, most = limits.get(symbol, _NO_LIMITS)
            if not least <= size <= most:
                raise InvalidArgument(
                    f"dimension {dimension} of input '{name}' must be between {least} and "
                    f"{most}, but is {size}"
                )

    return check


def _limits(values: Any) -> tuple[float, float]:
    """``values``: PyTorch's range of a symbol, whose ends may be infinite."""
    least = int(values.lower) if values.lower > _ANY_BATCH else 0
    return least, int(values.upper) if values.upper.is_Integer else math.inf
