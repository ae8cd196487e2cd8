"""Graphs without state: function calls written out, variables that nobody writes made constants.

What a small graph costs is counted in nodes. A variable takes two or three of them in every run,
and a graph without state can be run by TensorFlow's plainest executor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.op_def_pb2 import OpDef
from tensorflow.python.framework import op_def_registry

from serving.core.errors import FailedPrecondition

_MOST_BYTES_OF_VARIABLES = 2**20
"""A run that reads more computes far longer than its nodes cost, and executors copy constants."""

_MOST_NODES = 4096
"""A load must not take much longer for this, and what calls itself has no end."""

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_OLD_VARIABLES = frozenset({"Variable", "VariableV2"})
_VARIABLES = _OLD_VARIABLES | {"VarHandleOp", "ReadVariableOp"}
_CONTROL_FLOW = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond"})
_WITHOUT_EFFECT = frozenset({"Const", "NoOp", "Placeholder"})
_NOT_INLINED = ("_noinline", "_XlaMustCompile", "api_implements")

ReadVariables = Callable[[Sequence[str]], Sequence[np.ndarray]]
"""The values of variables by the names of their nodes, VarHandleOp or VariableV2."""


@dataclass(frozen=True, slots=True)
class FrozenGraph:
    """Operations that keep nothing between runs. ``tensors`` maps names of the original graph's
    tensors, those that signatures feed and fetch, to the names of the same tensors here.
    """

    graph: GraphDef
    tensors: Mapping[str, str]


def frozen_graph(
    graph: GraphDef, feeds: Iterable[str], fetches: Iterable[str], read: ReadVariables
) -> FrozenGraph:
    """What computes ``fetches``, with the present values of the variables it reads.

    A feed that no fetch depends on is left out of the result. Raises FailedPrecondition, saying
    why, where any fetch has to do with an operation that keeps or changes state (this includes
    random numbers, tables and variables that are assigned to), that branches or repeats, that is
    run for its own sake or is not known, and where graph or variables are large. Raises what
    ``read`` raises.
    """
    inlining = _Inlining(graph)
    tensors = {fetch: inlining.tensor(fetch) for fetch in fetches}
    inlining.finish()
    _check_size(inlining.variables)
    nodes = _needed(inlining.nodes, tensors.values())
    tensors.update((feed, feed) for feed in feeds if _node_of(feed) in nodes)
    frozen = GraphDef(versions=graph.versions)
    frozen.node.extend(nodes.values())
    variables = inlining.variables.values()
    values = read(list(inlining.variables)) if variables else []
    frozen.node.extend(map(_constant, variables, values))
    return FrozenGraph(frozen, tensors)


@dataclass(eq=False, slots=True)
class _Scope:
    """The nodes of the graph, or of one call of a function; then ``arguments`` are by the names
    of its parameters, as the scope of its caller calls them.
    """

    prefix: str
    nodes: Mapping[str, NodeDef]
    caller: _Scope | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)
    results: Sequence[str] = ()

    def output(self, reference: str) -> tuple[NodeDef, int]:
        """The node that a name of a tensor means, and which of its outputs."""
        name, *output = reference.split(":")
        node = self.nodes[name]
        if len(output) < 2:  # as the graph writes it; functions say which output, then which of it
            return node, int(output[0]) if output else 0
        return node, _position(node, output[0]) + int(output[1])


class _Inlining:
    """Follows tensors to what computes them, through calls, and collects these nodes.

    The names are those that TensorFlow itself gives inlined nodes. Control inputs are looked at
    as everything else is, and then left out: nothing that is collected has effects to be ordered.
    """

    def __init__(self, graph: GraphDef) -> None:
        self.nodes: dict[str, NodeDef] = {}
        self.variables: dict[str, NodeDef] = {}
        self._functions = {function.signature.name: function for function in graph.library.function}
        self._top = _Scope("", {node.name: node for node in graph.node})
        self._calls: dict[tuple[_Scope, str], _Scope] = {}
        self._seen: set[tuple[_Scope, str]] = set()
        self._pending: list[tuple[_Scope, NodeDef]] = []

    def tensor(self, name: str) -> str:
        """What the collected nodes call a tensor of the graph."""
        return self._tensor(self._top, name)

    def finish(self) -> None:
        """Collect everything that the tensors asked for depend on."""
        while self._pending:
            self._collect(*self._pending.pop())

    def _collect(self, scope: _Scope, node: NodeDef) -> None:
        self._reach_controls(scope, node)
        if node.op in _VARIABLES:
            return  # whoever uses their values has them from a constant
        _check(node)
        collected = NodeDef(name=scope.prefix + node.name, op=node.op)
        collected.input.extend(self._tensor(scope, name) for name in _data_inputs(node))
        for name, value in node.attr.items():
            if name != "_class":  # to be placed beside nodes that may be gone
                collected.attr[name].CopyFrom(value)
        if self.nodes.setdefault(collected.name, collected) is not collected:
            raise FailedPrecondition(f"there are two nodes of the name {collected.name}")

    def _tensor(self, scope: _Scope, reference: str) -> str:
        scope, node, index = self._source(scope, reference)
        if node.op == "ReadVariableOp":
            self._reach(scope, node)
            scope, node, index = self._source(scope, node.input[0])
            if node.op != "VarHandleOp" or scope is not self._top:
                raise FailedPrecondition(f"what {node.name} reads is not known")
            self.variables[node.name] = node
        elif node.op in _OLD_VARIABLES:
            self.variables[node.name] = node
        elif node.op == "VarHandleOp":
            raise FailedPrecondition(f"variable {node.name} is used by more than reads")
        self._reach(scope, node)
        return f"{scope.prefix}{node.name}:{index}"

    def _source(self, scope: _Scope, reference: str) -> tuple[_Scope, NodeDef, int]:
        """The node that computes a tensor, and where that is."""
        while True:
            if scope.caller is not None and reference in scope.arguments:
                scope, reference = scope.caller, scope.arguments[reference]
                continue
            node, index = scope.output(reference)
            if node.op in _CALLS:
                scope = self._called(scope, node)
                reference = scope.results[index]
            elif node.op == "Identity" and node.attr["T"].type == types_pb2.DT_RESOURCE:
                self._reach_controls(scope, node)
                reference = node.input[0]
            else:
                return scope, node, index

    def _called(self, caller: _Scope, call: NodeDef) -> _Scope:
        """The scope of this call, everything in it that must happen reached."""
        found = self._calls.get((caller, call.name))
        if found is not None:
            return found
        if len(self._calls) >= _MOST_NODES:
            raise FailedPrecondition("there are too many calls")
        function = self._functions[call.attr["f"].func.name]
        _check_inlined(call, function)
        scope = _Scope(
            f"{caller.prefix}{call.name}/",
            {node.name: node for node in function.node_def},
            caller,
            dict(zip(_names(function.signature.input_arg), _data_inputs(call), strict=True)),
            [function.ret[name] for name in _names(function.signature.output_arg)],
        )
        self._calls[caller, call.name] = scope
        self._reach_controls(caller, call)
        for name in function.control_ret.values():
            self._reach_control(scope, name)
        return scope

    def _reach_controls(self, scope: _Scope, node: NodeDef) -> None:
        for name in node.input:
            if name.startswith("^"):
                self._reach_control(scope, name[1:])

    def _reach_control(self, scope: _Scope, name: str) -> None:
        if name in scope.arguments:
            return  # the caller's inputs are reached where they are used
        node = scope.nodes[name]
        if node.op not in _CALLS:
            self._reach(scope, node)
            return
        inner = self._called(scope, node)
        for result in inner.results:
            self._reach_control(inner, _node_of(result))

    def _reach(self, scope: _Scope, node: NodeDef) -> None:
        if len(self._seen) >= _MOST_NODES:
            raise FailedPrecondition("there are too many nodes")
        if (scope, node.name) not in self._seen:
            self._seen.add((scope, node.name))
            self._pending.append((scope, node))


def _needed(nodes: Mapping[str, NodeDef], tensors: Iterable[str]) -> dict[str, NodeDef]:
    """The nodes that compute the tensors. Raises FailedPrecondition for others that may fail."""
    needed: dict[str, NodeDef] = {}
    pending = [_node_of(tensor) for tensor in tensors]
    while pending:
        name = pending.pop()
        if name in nodes and name not in needed:
            needed[name] = nodes[name]
            pending.extend(map(_node_of, nodes[name].input))
    for name in nodes.keys() - needed.keys():
        if nodes[name].op not in _WITHOUT_EFFECT:
            raise FailedPrecondition(f"{nodes[name].op} {name} is run for its own sake")
    return needed


def _constant(variable: NodeDef, value: np.ndarray) -> NodeDef:
    constant = NodeDef(name=variable.name, op="Const")
    constant.attr["dtype"].CopyFrom(variable.attr["dtype"])
    proto = tf.make_tensor_proto(value, variable.attr["dtype"].type, np.shape(value))
    constant.attr["value"].tensor.CopyFrom(proto)
    return constant


def _check(node: NodeDef) -> None:
    """Raises FailedPrecondition for whatever is more than a function of its inputs."""
    operation = op_def_registry.get(node.op)
    if operation is None:
        raise FailedPrecondition(f"{node.name} is of the unknown operation {node.op}")
    if operation.is_stateful or any(argument.is_ref for argument in operation.input_arg):
        raise FailedPrecondition(f"{node.op} {node.name} has to do with state")
    if node.op in _CONTROL_FLOW or any(map(_is_unsettled, node.attr.values())):
        raise FailedPrecondition(f"{node.op} {node.name} calls, branches or repeats")


def _is_unsettled(attribute: AttrValue) -> bool:
    """Whether it names functions, or stands for what each caller of its function chooses."""
    return (
        attribute.HasField("func") or bool(attribute.list.func) or attribute.HasField("placeholder")
    )


def _check_inlined(call: NodeDef, function: FunctionDef) -> None:
    for attributes in (call.attr, function.attr):
        for name in _NOT_INLINED:
            if name in attributes:
                raise FailedPrecondition(f"{call.name} is to be called with {name}")


def _check_size(variables: Mapping[str, NodeDef]) -> None:
    size_bytes = 0
    for name, node in variables.items():
        shape = tf.TensorShape(node.attr["shape"].shape)
        if not shape.is_fully_defined():
            raise FailedPrecondition(f"variable {name} may be of any size")
        size_bytes += shape.num_elements() * tf.as_dtype(node.attr["dtype"].type).size
    if size_bytes > _MOST_BYTES_OF_VARIABLES:
        raise FailedPrecondition(f"the variables are large, {size_bytes} bytes")


def _position(node: NodeDef, output: str) -> int:
    """Where a named output of an operation begins among all its outputs."""
    position = 0
    for argument in op_def_registry.get(node.op).output_arg:
        if argument.name == output:
            return position
        if argument.number_attr:
            position += node.attr[argument.number_attr].i
        elif argument.type_list_attr:
            position += len(node.attr[argument.type_list_attr].list.type)
        else:
            position += 1
    raise FailedPrecondition(f"{node.op} {node.name} has no output {output}")


def _node_of(tensor: str) -> str:
    return tensor.partition(":")[0]


def _data_inputs(node: NodeDef) -> list[str]:
    return [name for name in node.input if not name.startswith("^")]


def _names(arguments: Iterable[OpDef.ArgDef]) -> list[str]:
    return [argument.name for argument in arguments]
