"""TorchScript programs, ``.pt`` files: loaded, and described as far as they say what they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from serving.core.dtypes import DType
from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.core.servable import Signature, TensorInfo
from serving.loaders.input_check import fits
from serving.loaders.pytorch_archive import check_script
from serving.loaders.pytorch_conversion import inputs_in, outputs_as
from serving.loaders.pytorch_program import PyTorchProgram
from serving.loaders.pytorch_tensors import ELEMENT_TYPES
from serving.loaders.signature_file import SIGNATURE_FILE, read_signature_file

_TENSOR = "TensorType"
_SEQUENCES = {"prim::TupleConstruct", "prim::ListConstruct"}


def load_script(
    file: Path, device: torch.device, dtype: torch.dtype | None = None
) -> PyTorchProgram:
    """The program on the device, with the types and shapes that ``signature.json`` declares; it
    computes in ``dtype``, if that is one.

    Inputs are called as the parameters of ``forward``; those that are no tensors, and those that
    the file leaves out, keep their defaults. Outputs are called as the file says, by the keys of a
    dict or in order; without it by the keys, where these are constants, else ``output_0``,
    ``output_1`` … and types and shapes are not known. Raises InvalidArgument for other inputs and
    outputs, and what PyTorch raises.
    """
    declared = read_signature_file(str(file.parent))
    with warnings.catch_warnings(), file.open("rb") as content:
        warnings.simplefilter("ignore")  # TorchScript is deprecated, in a class of each version's
        check_script(content)
        content.seek(0)
        module = torch.jit.load(content, map_location=device)
    module.eval()
    if dtype is not None:
        module.to(dtype)
    if not hasattr(module, "forward"):
        raise InvalidArgument("the TorchScript program has no method 'forward'")
    graph = module.inlined_graph
    signature = Signature(
        _inputs(module.forward.schema.arguments[1:], declared.inputs),
        declared.outputs or {name: _unknown(name) for name in _output_names(graph)},
        method_name="tensorflow/serving/predict",
    )
    return PyTorchProgram(
        signature,
        _function(module, list(signature.inputs), signature.outputs, dtype),
        writes_in_place=_writes(graph),
        may_run_long=graph.findNode("prim::Loop", True) is not None,
    )


def _unknown(name: str) -> TensorInfo:
    return TensorInfo(name, DType.INVALID, None)


def _inputs(
    parameters: Sequence[Any], declared: Mapping[str, TensorInfo] | None
) -> Mapping[str, TensorInfo]:
    """What is declared, else the parameters that have no default and those that are tensors."""
    tensors = {each.name for each in parameters if each.type.kind() == _TENSOR}
    wanted = {each.name for each in parameters if not each.has_default_value()}
    if declared is None:
        if strange := sorted(wanted - tensors):
            raise InvalidArgument(f"input '{strange[0]}' is no tensor, and has no default")
        return {each.name: _unknown(each.name) for each in parameters if each.name in tensors}
    names = [each.name for each in parameters]
    if not wanted <= declared.keys() <= set(names):
        raise InvalidArgument(
            f"{SIGNATURE_FILE}: inputs are to be the parameters of forward, which are "
            f"{', '.join(names)}, not {', '.join(declared)}"
        )
    return declared


def _output_names(graph: Any) -> list[str]:
    outputs = list(graph.outputs())
    node = outputs[0].node()
    parts = list(node.inputs())
    if outputs[0].type().kind() == _TENSOR:
        return ["output_0"]
    is_whole = parts and len(outputs[0].uses()) == 1  # what is put in later is not known here
    if is_whole and node.kind() == "prim::DictConstruct":
        keys = [key.toIValue() for key in parts[::2] if key.node().kind() == "prim::Constant"]
        if len(keys) == len(set(keys)) == len(parts) // 2 and _are_tensors(parts[1::2]):
            return [str(key) for key in keys]
    elif is_whole and node.kind() in _SEQUENCES and _are_tensors(parts):
        return [f"output_{index}" for index in range(len(parts))]
    raise InvalidArgument(
        f"the TorchScript program gives {outputs[0].type()}; without outputs in {SIGNATURE_FILE}, "
        "it has to give a tensor, or make a tuple, a list or a dict with constant keys of tensors "
        "in one expression"
    )


def _are_tensors(values: Sequence[Any]) -> bool:
    return all(value.type().kind() == _TENSOR for value in values)


def _function(
    module: Any,
    inputs: Sequence[str],
    outputs: Mapping[str, TensorInfo],
    dtype: torch.dtype | None,
) -> Callable[[Mapping[str, torch.Tensor]], Sequence[object]]:
    def run(tensors: Mapping[str, torch.Tensor]) -> Sequence[object]:
        if dtype is not None:
            tensors = inputs_in(tensors, dtype)
        given = module(**{name: tensors[name] for name in inputs})
        if isinstance(given, torch.Tensor):
            given = [given]
        elif isinstance(given, dict):
            given = _by_name(given, outputs)
        if dtype is not None:
            given = outputs_as(outputs, given)
        for info, value in zip(outputs.values(), given, strict=False):
            _check_output(info, value)
        return list(given)

    return run


def _by_name(given: Mapping[str, object], names: Iterable[str]) -> Sequence[object]:
    if missing := [name for name in names if name not in given]:
        raise FailedPrecondition(
            f"{SIGNATURE_FILE}: outputs.{missing[0]} is none of the model's, which are "
            f"{', '.join(map(str, given))}"
        )
    return [given[name] for name in names]


def _check_output(info: TensorInfo, value: object) -> None:
    """Raises FailedPrecondition for a tensor that is not as declared, if it is."""
    if info.dtype is DType.INVALID or not isinstance(value, torch.Tensor):
        return
    is_wrong = ELEMENT_TYPES.get(value.dtype) is not info.dtype
    if is_wrong or (info.shape is not None and not fits(value.shape, info.shape)):
        raise FailedPrecondition(
            f"{SIGNATURE_FILE}: outputs.{info.name} is not what the model gave, which is "
            f"{value.dtype} of the shape {list(value.shape)}"
        )


def _writes(block: Any) -> bool:
    """Whether any operator writes to what it is given, or something is called that is not here."""
    return any(
        "!)" in node.schema()
        or node.kind() in ("prim::CallMethod", "prim::CallFunction")
        or any(_writes(inner) for inner in node.blocks())
        for node in block.nodes()
    )
