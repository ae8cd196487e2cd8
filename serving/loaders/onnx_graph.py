"""What the file of an ONNX model tells of its graph, which onnxruntime keeps to itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

# Loops, and the searches for a text, whose length their inputs say.
_LONG_OPERATIONS = frozenset(
    {b"Loop", b"Scan", b"BeamSearch", b"GreedySearch", b"Sampling", b"WhisperBeamSearch"}
)

# The fields of onnx.proto that lead to nodes, by their numbers.
_OF_MESSAGE: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto"},
    "FunctionProto": {7: "NodeProto"},
    "NodeProto": {4: "op_type", 5: "AttributeProto"},
    "AttributeProto": {6: "GraphProto", 11: "GraphProto"},
}
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
"""The wire types of protobuf."""


def may_run_long(file: Path) -> bool:
    """Whether a run can take long however small its inputs are.

    So it is where any operation, of the graph, a subgraph or a function, repeats others, and where
    the file does not read as a model. Weights are passed over, not read. Raises OSError.
    """
    with file.open("rb") as model:
        try:
            operations = _operations(model, file.stat().st_size, "ModelProto")
            return any(operation in _LONG_OPERATIONS for operation in operations)
        except (ValueError, RecursionError):
            return True


def _operations(model: BinaryIO, end: int, message: str) -> Iterator[bytes]:
    """The types of all nodes of the message that lies between here and ``end``."""
    while model.tell() < end:
        tag = _varint(model)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _varint(model)
            continue
        size = _varint(model) if wire_type == _LENGTH else _fixed_size(wire_type)
        following = model.tell() + size
        kind = _OF_MESSAGE[message].get(tag >> 3)
        if kind == "op_type":
            yield model.read(size)
        elif kind is not None:
            yield from _operations(model, following, kind)
        model.seek(following)


def _fixed_size(wire_type: int) -> int:
    if wire_type == _EIGHT_BYTES:
        return 8
    if wire_type == _FOUR_BYTES:
        return 4
    raise ValueError(f"there is no wire type {wire_type} in a model")


def _varint(model: BinaryIO) -> int:
    value = shift = 0
    while byte := model.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    raise ValueError("the model ends in the middle of a number")
