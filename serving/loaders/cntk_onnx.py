"""CNTK's models as ONNX models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from serving.core.dtypes import dtype_of
from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.servable import TensorInfo
from serving.loaders.cntk_elementwise import WRITERS as ELEMENT_WISE
from serving.loaders.cntk_files import CntkModel, read_cntk
from serving.loaders.cntk_layers import WRITERS as LAYERS
from serving.loaders.cntk_operator import Operator, Value, Writer
from serving.loaders.cntk_values import Values, dtype_of_number
from serving.loaders.onnx_builder import GraphBuilder

_COMBINE, _BLOCK = 44, 57
_INPUT, _PARAMETER, _CONSTANT = 0, 2, 3
_OUTPUT = re.compile(r"(.+)_Output_(\d{1,4})", re.DOTALL)
_BATCH = "defaultBatchAxis"
_WRITERS: Mapping[int, Writer] = {**ELEMENT_WISE, **LAYERS}


def cntk_to_onnx(path: str) -> onnx.ModelProto:
    """The model of the version directory ``path``.

    Raises FailedPrecondition for a function that is not supported and for sequences, NotFound
    without a file, InvalidArgument for anything else that is wrong with it.
    """
    return _Conversion(read_cntk(path)).model()


class _Conversion:
    """One model on its way to be an ONNX graph."""

    def __init__(self, model: CntkModel) -> None:
        self._model = model
        self._outputs = self._named_outputs()
        names = [_name(uid, each) for uid, each in model.variables.items()]
        self._graph = GraphBuilder([*names, *self._outputs])
        self._values: dict[str, Value] = {}
        self._inputs: set[str] = set()

    def model(self) -> onnx.ModelProto:
        for uid in self._outputs.values():
            self._make(uid)
        return self._graph.model(
            {name: self._values[uid].name for name, uid in self._outputs.items()}
        )

    def _named_outputs(self) -> Mapping[str, str]:
        """The model's outputs by name: what CNTK calls the function, or the output's uid."""
        uids = self._outputs_of(self._model.root)
        names = [self._output_name(uid) for uid in uids]
        if len(set(names)) != len(names):
            names = list(uids)
        if len(set(names)) != len(names):
            raise InvalidArgument("it has the same output twice")
        return dict(zip(names, uids, strict=True))

    def _outputs_of(self, uid: str) -> Sequence[str]:
        function = self._function(uid)
        if function.integer("op") == _COMBINE:
            return function.texts("inputs")
        return [f"{uid}_Output_0"]

    def _output_name(self, uid: str) -> str:
        found = _OUTPUT.fullmatch(uid)
        return (self._function(found[1]).text("name", "") if found else "") or uid

    def _function(self, uid: str) -> Values:
        if uid not in self._model.functions:
            raise InvalidArgument(f"there is no function '{uid}'")
        return self._model.functions[uid]

    def _make(self, wanted: str) -> None:
        """Add what a value needs, and it: without recursion, as networks may be deep."""
        begun: set[str] = set()
        waiting = [wanted]
        while waiting:
            uid = waiting[-1]
            if uid in self._values:
                waiting.pop()
                continue
            missing = [each for each in self._needed(uid) if each not in self._values]
            if missing and uid in begun:
                raise InvalidArgument(f"'{uid}' depends on itself")
            begun.add(uid)
            waiting += missing
            if not missing:
                self._values[uid] = self._value(uid)

    def _needed(self, uid: str) -> Sequence[str]:
        """The values that one is made of."""
        if uid in self._model.arguments:
            return [self._model.arguments[uid]]
        if uid in self._model.variables:
            return []
        function, index = self._source(uid)
        number = function.integer("op")
        if number == _COMBINE:
            return [_at(function.texts("inputs"), index)]
        if number == _BLOCK:
            inner = function.dictionary("block_function_composite").text("root")
            return [_at(self._outputs_of(inner), index)]
        return function.texts("inputs")

    def _source(self, uid: str) -> tuple[Values, int]:
        found = _OUTPUT.fullmatch(uid)
        if found is None:
            raise InvalidArgument(f"there is no '{uid}', which is read")
        return self._function(found[1]), int(found[2])

    def _value(self, uid: str) -> Value:
        if uid in self._model.arguments:
            return self._values[self._model.arguments[uid]]
        if uid in self._model.variables:
            return self._variable(uid, self._model.variables[uid])
        function, index = self._source(uid)
        number = function.integer("op")
        if number in (_COMBINE, _BLOCK):
            return self._values[self._needed(uid)[0]]
        where = f"function '{uid.rpartition('_Output_')[0]}'"
        if number not in _WRITERS:
            raise FailedPrecondition(f"{where}: CNTK's operation {number} is not supported")
        inputs = [self._values[each] for each in function.texts("inputs")]
        operator = Operator(inputs, function.dictionary("attributes"), self._graph)
        try:
            if index:
                raise InvalidArgument("it has one output only")
            return Value(_WRITERS[number](operator), operator.is_batch)
        except ServingError as error:
            raise type(error)(f"{where}: {error.message}") from error
        except (IndexError, ValueError, OverflowError, TypeError) as error:
            raise InvalidArgument(f"{where}: its inputs and attributes do not fit") from error

    def _variable(self, uid: str, variable: Values) -> Value:
        name, kind = _name(uid, variable), variable.integer("kind")
        try:
            if kind in (_PARAMETER, _CONSTANT):
                return Value(self._graph.constant(variable.array("value"), name), False)
            if kind != _INPUT:
                raise InvalidArgument("nothing gives it a value")
            return self._input(name, variable)
        except ServingError as error:
            raise type(error)(f"variable '{name}': {error.message}") from error

    def _input(self, name: str, variable: Values) -> Value:
        axes = [axis.name for axis in variable.axes("dynamic_axis")]
        if axes not in ([], [_BATCH]):
            raise FailedPrecondition("sequences, and other dynamic axes, are not supported")
        if variable.flag("is_sparse"):
            raise FailedPrecondition("sparse inputs are not supported")
        if name in self._inputs:
            raise InvalidArgument("several inputs have this name")
        self._inputs.add(name)
        sizes = [None if size == -1 else size for size in variable.sizes("shape")]
        dtype = dtype_of_number(variable.integer("data_type"))
        shape = (None, *sizes) if axes else tuple(sizes)
        info = TensorInfo(name, dtype_of(np.empty(0, dtype)), shape)
        return Value(self._graph.input(info), bool(axes))


def _name(uid: str, variable: Values) -> str:
    return variable.text("name", "") or uid


def _at(values: Sequence[str], index: int) -> str:
    if index >= len(values):
        raise InvalidArgument(f"there is no output {index}")
    return values[index]
