"""MXNet's models as ONNX models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

import numpy as np
import onnx

from serving.core.dtypes import numpy_dtype
from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.loaders.input_check import fits
from serving.loaders.mxnet_attributes import Attributes
from serving.loaders.mxnet_files import mxnet_files
from serving.loaders.mxnet_inputs import input_of
from serving.loaders.mxnet_operator import Operation, cast
from serving.loaders.mxnet_operators import OPERATORS
from serving.loaders.mxnet_outputs import LABELLED
from serving.loaders.mxnet_params import read_params
from serving.loaders.mxnet_signature import Declared, MXNetSignature, read_mxnet_signature
from serving.loaders.mxnet_symbol import VARIABLE, Node, Output, Symbol, read_symbol
from serving.loaders.onnx_builder import GraphBuilder

_WEIGHTED = frozenset(
    {
        "BatchNorm",
        "BatchNorm_v1",
        "Convolution",
        "Convolution_v1",
        "Deconvolution",
        "Embedding",
        "FullyConnected",
        "GroupNorm",
        "InstanceNorm",
        "LayerNorm",
        "_contrib_SyncBatchNorm",
    }
)
"""Layers whose inputs behind the first are parameters."""


def mxnet_to_onnx(path: str) -> onnx.ModelProto:
    """The model of the version directory ``path``: a symbol, its parameters and what signature
    files beside them say.

    Raises NotFound without these files, FailedPrecondition for an operator that is not supported,
    InvalidArgument for anything else that is wrong with them.
    """
    files = mxnet_files(path)
    symbol, params = read_symbol(files.symbol), read_params(files.params)
    return _Conversion(symbol, params, read_mxnet_signature(files.signature)).model()


class _Conversion:
    """One symbol on its way to be an ONNX graph."""

    def __init__(
        self, symbol: Symbol, params: Mapping[str, np.ndarray], signature: MXNetSignature
    ) -> None:
        self._symbol = symbol
        self._needed = _needed(symbol)
        self._declared = {each.name: each for each in signature.inputs or ()}
        self._inputs_are_declared = signature.inputs is not None
        self._params = {name: array for name, array in params.items() if name not in self._declared}
        self._signature = signature
        self._weights = _weights(symbol)
        self._values: dict[Output, str] = {}
        self._inputs: set[str] = set()
        self._graph = GraphBuilder(each.name for each in symbol.nodes)

    def model(self) -> onnx.ModelProto:
        outputs = self._outputs()
        for number in self._needed:
            node = self._symbol.nodes[number]
            if node.operator == VARIABLE:
                self._values[Output(number, 0)] = self._variable(number, node)
            else:
                self._add(number, node)
        unused = self._declared.keys() - self._inputs
        if unused:
            raise InvalidArgument(f"the signature has the input '{min(unused)}', the model has not")
        return self._graph.model(
            {name: self._output(output, declared) for name, output, declared in outputs}
        )

    def _variable(self, number: int, node: Node) -> str:
        if node.name in self._params:
            return self._graph.constant(self._params[node.name], node.name)
        if node.name in self._inputs:
            raise InvalidArgument(f"several variables of the symbol are called '{node.name}'")
        declared = self._declared.get(node.name)
        if declared is None:
            self._check_input(number, node)
        self._inputs.add(node.name)
        return self._graph.input(input_of(self._symbol, number, self._params, declared))

    def _check_input(self, number: int, node: Node) -> None:
        """Whether a variable that has no value may be an input."""
        if Output(number, 0) in self._weights:
            raise InvalidArgument(f"the parameters lack '{node.name}'")
        if self._inputs_are_declared:
            raise InvalidArgument(f"the signature lacks the input '{node.name}'")

    def _add(self, number: int, node: Node) -> None:
        where = f"{node.operator} '{node.name}'"
        write = OPERATORS.get(node.operator)
        if write is None:
            raise FailedPrecondition(f"{where}: the operator is not supported")
        sources = _read(node)
        missing = [source for source in sources if source not in self._values]
        if missing:
            raise InvalidArgument(f"{where}: an input has no output {missing[0].index}")
        try:
            inputs = [self._values[source] for source in sources]
            written = write(Operation(self._graph, Attributes(node.attributes), inputs))
        except InvalidArgument as error:
            raise InvalidArgument(f"{where}: {error.message}") from error
        except (IndexError, ValueError, OverflowError, TypeError) as error:
            raise InvalidArgument(f"{where}: its inputs and attributes do not fit") from error
        values = [written] if isinstance(written, str) else written
        self._values |= {Output(number, index): value for index, value in enumerate(values)}

    def _outputs(self) -> Sequence[tuple[str, Output, Declared | None]]:
        """Name and source of each output; declared ones stand for the model's in its order."""
        heads = self._symbol.heads
        own = [_name(self._symbol, head) for head in heads]
        declared = self._signature.outputs
        if declared is None:
            named = [(name, head, None) for name, head in zip(own, heads, strict=True)]
            if len(set(own)) != len(own):
                raise InvalidArgument("several outputs have the same name")
            return named
        if all(each.name in own for each in declared):
            return [(each.name, heads[own.index(each.name)], each) for each in declared]
        if len(declared) != len(heads):
            raise InvalidArgument(
                f"the signature has {len(declared)} outputs, the model {', '.join(own)}"
            )
        return [(each.name, head, each) for each, head in zip(declared, heads, strict=True)]

    def _output(self, output: Output, declared: Declared | None) -> str:
        if output not in self._values:
            raise InvalidArgument(f"{_name(self._symbol, output)} is an output that is not there")
        value = self._values[output]
        if declared is None or declared.dtype is None:
            return value
        shape = self._graph.shape(value)
        if shape is not None and declared.shape is not None and not _agree(shape, declared.shape):
            raise InvalidArgument(
                f"the signature has the output '{declared.name}' of the shape "
                f"{list(declared.shape)}, the model of {list(shape)}"
            )
        return cast(self._graph, value, numpy_dtype(declared.dtype))


def _needed(symbol: Symbol) -> Sequence[int]:
    """The nodes that the heads depend on, in the symbol's order."""
    needed = {head.node for head in symbol.heads}
    for number in range(len(symbol.nodes) - 1, -1, -1):
        if number in needed:
            needed |= {source.node for source in _read(symbol.nodes[number])}
    return sorted(needed)


def _weights(symbol: Symbol) -> Set[Output]:
    """What layers read that has to come from the parameters."""
    layers = (node for node in symbol.nodes if node.operator in _WEIGHTED)
    return {source for layer in layers for source in layer.inputs[1:]}


def _read(node: Node) -> Sequence[Output]:
    """The inputs that a prediction needs, so no labels."""
    return node.inputs[:1] if node.operator in LABELLED else node.inputs


def _name(symbol: Symbol, output: Output) -> str:
    """As MXNet calls it."""
    node = symbol.nodes[output.node]
    if node.operator == VARIABLE:
        return node.name
    several = node.operator in ("SliceChannel", "split", "_split_v2", "topk")
    return f"{node.name}_output{output.index if several else ''}"


def _agree(shape: Iterable[int | None], declared: Sequence[int | None]) -> bool:
    return fits([-1 if size is None else size for size in shape], declared)
