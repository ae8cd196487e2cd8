"""Programs that ``torch.export`` has written, ``.pt2`` files: loaded, and described."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
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
from serving.loaders.pytorch_conversion import convert_graph, inputs_in, outputs_as
from serving.loaders.pytorch_program import PyTorchProgram
from serving.loaders.pytorch_tensors import element_type

_NAME = "model"
_LOOPS = frozenset({"while_loop", "scan", "associative_scan", "map_impl"})
_ANY_BATCH = 2
"""Programs that were exported with sizes from 2 upwards take 0 and 1 as well."""


_loading = threading.Lock()
"""PyTorch keeps what it is deserializing in a global variable."""
_NO_LIMITS = (0, math.inf)
_Size = tuple[str, int, Any]
"""An input, one of its dimensions, and the expression of sympy's that is its size."""


def load_exported(
    file: Path, device: torch.device, dtype: torch.dtype | None = None
) -> PyTorchProgram:
    """The program on the device, with the names, types and shapes that it was exported with; it
    computes in ``dtype``, if that is one.

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
            return _program(load_pt2(content).exported_programs[_NAME], device, dtype)


def _program(
    exported: ExportedProgram, device: torch.device, dtype: torch.dtype | None
) -> PyTorchProgram:
    signature = signature_of(exported)
    sizes = list(_input_sizes(exported))
    limits = {symbol: _limits(each) for symbol, each in exported.range_constraints.items()}
    exported = move_to_device_pass(exported, device)
    nodes = [node for module in _graphs(exported) for node in module.graph.nodes]
    return PyTorchProgram(
        signature,
        _function(exported, signature, dtype),
        # A program may be free of operators that write, and have PyTorch copy what they would have.
        writes_in_place=bool(exported.graph_signature.user_inputs_to_mutate)
        or bool(exported.graph_signature.buffers_to_mutate)
        or any(_writes(node.target) for node in nodes),
        may_run_long=any(getattr(node.target, "__name__", "") in _LOOPS for node in nodes),
        check_shapes=partial(_check_sizes, sizes, limits),
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
    exported: ExportedProgram, signature: Signature, dtype: torch.dtype | None
) -> Callable[[Mapping[str, torch.Tensor]], Sequence[object]]:
    """The program as a function of its inputs that are tensors; the others have their one value."""
    # The guards are Python code from the file; _check_sizes looks at the sizes instead.
    module: Any = exported.module(check_guards=False)
    module.validate_inputs = False
    if dtype is not None:
        convert_graph(module, dtype)
    structure = exported.call_spec.in_spec
    arguments = [spec.arg for spec in exported.graph_signature.input_specs if _is_user(spec)]
    constants = {each.name: each.value for each in arguments if isinstance(each, ConstantArgument)}
    names = [each.name for each in arguments]

    def run(tensors: Mapping[str, torch.Tensor]) -> Sequence[object]:
        if dtype is not None:
            tensors = inputs_in(tensors, dtype)
        leaves = [tensors[name] if name in tensors else constants[name] for name in names]
        args, kwargs = pytree.tree_unflatten(leaves, structure)
        outputs: Sequence[object] = pytree.tree_leaves(module(*args, **kwargs))
        return outputs if dtype is None else outputs_as(signature.outputs, outputs)

    return run


def _graphs(exported: ExportedProgram) -> Iterator[torch.fx.GraphModule]:
    """The program's graph, and those of its branches and loops."""
    for module in exported.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            yield module


def _writes(target: object) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable  # noqa: SLF001 - nothing else tells


def _input_sizes(exported: ExportedProgram) -> Iterator[_Size]:
    """The sizes that are no numbers; symbols first, as the others are made of them.

    Raises InvalidArgument for one that is made of symbols that no input has by themselves.
    """
    inputs = set(exported.graph_signature.user_inputs)
    sizes = [
        (node.name, dimension, size.node.expr)
        for node in exported.graph.nodes
        if node.op == "placeholder" and node.name in inputs
        for dimension, size in enumerate(getattr(node.meta["val"], "shape", ()))
        if not isinstance(size, int)
    ]
    known = {size for _, _, size in sizes if size.is_Symbol}
    for name, dimension, size in sorted(sizes, key=lambda each: not each[2].is_Symbol):
        if not size.free_symbols <= known:
            raise InvalidArgument(
                f"dimension {dimension} of input '{name}' is {size}, and no input has a dimension "
                f"that is {_listed(size.free_symbols - known)} alone"
            )
        yield name, dimension, size


def _check_sizes(
    sizes: Sequence[_Size],
    limits: Mapping[Any, tuple[float, float]],
    given: Mapping[str, Sequence[int]],
) -> None:
    """Sizes of the same symbol are the same and in its range; others are what that makes them."""
    found: dict[Any, tuple[int, str, int]] = {}
    for name, dimension, expected in sizes:
        size = given[name][dimension]
        if not expected.is_Symbol:
            _check_derived(name, dimension, size, expected, found)
            continue
        known, other, its_dimension = found.setdefault(expected, (size, name, dimension))
        if size != known:
            raise InvalidArgument(
                f"dimension {dimension} of input '{name}' must be as dimension "
                f"{its_dimension} of input '{other}', which is {known}, but is {size}"
            )
        least, most = limits.get(expected, _NO_LIMITS)
        if not least <= size <= most:
            raise InvalidArgument(
                f"dimension {dimension} of input '{name}' must be between {least} and "
                f"{most}, but is {size}"
            )


def _check_derived(
    name: str,
    dimension: int,
    size: int,
    expected: Any,
    found: Mapping[Any, tuple[int, str, int]],
) -> None:
    wanted = expected.subs({symbol: found[symbol][0] for symbol in expected.free_symbols})
    if size != wanted:
        origins = (found[symbol][1:] for symbol in sorted(expected.free_symbols, key=str))
        listed = " and ".join(f"dimension {index} of input '{other}'" for other, index in origins)
        raise InvalidArgument(
            f"dimension {dimension} of input '{name}' must be {wanted}, for {listed}, but is {size}"
        )


def _listed(symbols: Iterable[Any]) -> str:
    return " or ".join(sorted(map(str, symbols)))


def _limits(values: Any) -> tuple[float, float]:
    """``values``: PyTorch's range of a symbol, whose ends may be infinite."""
    least = int(values.lower) if values.lower > _ANY_BATCH else 0
    return least, int(values.upper) if values.upper.is_Integer else math.inf
