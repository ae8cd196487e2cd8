"""``symbol.json``, the graph of an MXNet model, as all versions of MXNet 1 and before wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.core.errors import InvalidArgument
from serving.loaders.model_file import read_model

VARIABLE = "null"
"""The operator of nodes that are inputs or parameters."""

_IMPLIED_INPUTS = {
    "BatchNorm": ("data", "gamma", "beta", "moving_mean", "moving_var"),
}
"""What files from before version 0.9 do not list."""


@dataclass(frozen=True, slots=True)
class Output:
    """One of the values that a node gives."""

    node: int
    index: int


@dataclass(frozen=True, slots=True)
class Node:
    """An operator with its inputs, or a variable. ``attributes`` are texts by name."""

    operator: str
    name: str
    attributes: Mapping[str, str]
    inputs: Sequence[Output]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A graph: every node's inputs stand before it; ``heads`` are what the model gives."""

    nodes: Sequence[Node]
    heads: Sequence[Output]


def read_symbol(file: Path) -> Symbol:
    """The graph in a file. Raises InvalidArgument, with the place, for one that holds none."""
    try:
        return _symbol(_document(read_model(file)))
    except InvalidArgument as error:
        raise InvalidArgument(f"{file.name} is no symbol of MXNet: {error.message}") from error


def _document(content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"it is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidArgument("it is no object")
    return document


def _symbol(document: Mapping[str, Any]) -> Symbol:
    listed = document.get("nodes")
    if not isinstance(listed, list) or not listed:
        raise InvalidArgument("it has no list of nodes")
    nodes: list[Node] = []
    places: list[int] = []  # where the nodes of the file have come, behind some that were implied
    for number, described in enumerate(listed):
        node = _node(f"nodes[{number}]", described, places)
        for name in _implied_inputs(node):
            node = Node(
                node.operator, node.name, node.attributes, [*node.inputs, Output(len(nodes), 0)]
            )
            nodes.append(Node(VARIABLE, name, {}, []))
        places.append(len(nodes))
        nodes.append(node)
    heads = _outputs("heads", document.get("heads"), places)
    if not heads:
        raise InvalidArgument("it has no heads")
    return Symbol(nodes, heads)


def _node(where: str, described: Any, places: Sequence[int]) -> Node:
    if not isinstance(described, dict):
        raise InvalidArgument(f"{where} is no object")
    operator, name = described.get("op"), described.get("name")
    if not isinstance(operator, str) or not isinstance(name, str):
        raise InvalidArgument(f"{where} lacks op or name")
    attributes: dict[str, str] = {}
    for key in ("attr", "param", "attrs"):  # as versions of MXNet have called them
        texts = described.get(key, {})
        if not isinstance(texts, dict) or not all(isinstance(each, str) for each in texts.values()):
            raise InvalidArgument(f"{where}.{key} is no object of texts")
        attributes |= texts
    return Node(operator, name, attributes, _outputs(where, described.get("inputs"), places))


def _outputs(where: str, listed: Any, places: Sequence[int]) -> list[Output]:
    """Each is the number of a node that stands before, of its output, and often of a version."""
    if not isinstance(listed, list):
        raise InvalidArgument(f"{where} has no list of inputs")
    for each in listed:
        if (
            not isinstance(each, list)
            or len(each) not in (2, 3)
            or any(type(number) is not int or number < 0 for number in each)
            or each[0] >= len(places)
        ):
            raise InvalidArgument(f"{where} has an input that no node before it gives")
    return [Output(places[each[0]], each[1]) for each in listed]


def _implied_inputs(node: Node) -> Sequence[str]:
    wanted = _IMPLIED_INPUTS.get(node.operator, ())
    return [f"{node.name}_{name}" for name in wanted[len(node.inputs) :]]
