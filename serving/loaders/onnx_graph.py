"""What the file of an ONNX model tells of its graph, which onnxruntime keeps to itself."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from serving.core.errors import InvalidArgument

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
# And those that lead to attributes; the default values of a function's are attributes as well.
_TO_ATTRIBUTES: Mapping[str, Mapping[int, str]] = {
    "ModelProto": {7: "GraphProto", 25: "FunctionProto"},
    "GraphProto": {1: "NodeProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {6: "GraphProto", 11: "GraphProto"},
}
# And those that lead to the names and ranks of inputs and outputs.
_IR_VERSION, _GRAPH, _OPERATOR_SET = 1, 7, 8  # of ModelProto
_DOMAIN, _VERSION = 1, 2  # of OperatorSetIdProto
_INPUT, _OUTPUT = 11, 12  # of GraphProto
_NAME, _TYPE = 1, 2  # of ValueInfoProto
_TENSOR = 1  # of TypeProto
_SHAPE = 2  # of TypeProto.Tensor
_DIMENSION = 1  # of TensorShapeProto
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TYPE, _OUTER_NAME = 1, 3, 20, 21
_INTEGER_TYPES = (0, 2)  # of AttributeProto, and of one that does not say

_FIRST_WITH_OPERATOR_SETS = 3

_Field = tuple[int, int]
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
"""The wire types of protobuf."""


def may_run_long(model: Path | bytes) -> bool:
    """Whether a run can take long however small its inputs are.

    So it is where any operation, of the graph, a subgraph or a function, repeats others, and where
    the file does not read as a model. Weights are passed over, not read. Raises OSError.
    """
    with _opened(model) as (content, size):
        try:
            operations = _operations(content, size, "ModelProto")
            return any(operation in _LONG_OPERATIONS for operation in operations)
        except (ValueError, RecursionError):
            return True


def check_groups(model: Path | bytes) -> None:
    """Raise InvalidArgument for an operation in less than one group, by which onnxruntime divides:
    that would end the process.

    A function's operation may have its ``group`` from an attribute of another name of who calls it.
    What does not read as a model is refused as well.
    """
    try:
        with _opened(model) as (content, size):
            attributes = set(_integer_attributes(content, size, "ModelProto"))
    except OSError as error:
        raise InvalidArgument(f"the ONNX model can not be loaded: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("the ONNX model can not be loaded: it is damaged") from error
    names = {b"group"}
    while outer := {each.outer for each in attributes if each.name in names and each.outer} - names:
        names |= outer
    for each in attributes:
        if each.name in names and each.value is not None and each.value < 1:
            raise InvalidArgument(
                f"the ONNX model can not be loaded: an operation can not be in {each.value} groups"
            )


def scalars(model: Path | bytes) -> frozenset[str]:
    """The inputs and outputs of the model that are declared without dimensions.

    Empty where the file does not read as a model. Weights are passed over, not read. Raises
    OSError.
    """
    with _opened(model) as (content, size):
        try:
            return frozenset(_scalars(content, size))
        except ValueError:
            return frozenset()


def operator_set(model: Path | bytes) -> int | None:
    """The version of ONNX's own operators that the model is written in.

    1 for models from before they said so; None where the file does not say, or can not be read.
    """
    try:
        with _opened(model) as (content, size):
            versions = [
                version
                for _, end in _those(_fields(content, size), _OPERATOR_SET)
                if (version := _version(content, end))
            ]
            content.seek(0)
            ir_version = dict(_numbers(content, size)).get(_IR_VERSION, 0)
    except (OSError, ValueError):
        return None
    return versions[0] if versions else 1 if 0 < ir_version < _FIRST_WITH_OPERATOR_SETS else None


@contextmanager
def _opened(model: Path | bytes) -> Iterator[tuple[BinaryIO, int]]:
    """What a file has in it, or what would be in one, and its size in bytes."""
    with io.BytesIO(model) if isinstance(model, bytes) else model.open("rb") as content:
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        yield content, size


def _operations(model: BinaryIO, end: int, message: str) -> Iterator[bytes]:
    """The types of all nodes of the message that lies between here and ``end``."""
    for number, following in _fields(model, end):
        kind = _OF_MESSAGE[message].get(number)
        if kind == "op_type":
            yield model.read(following - model.tell())
        elif kind is not None:
            yield from _operations(model, following, kind)


class _IntegerAttribute(NamedTuple):
    name: bytes
    value: int | None
    outer: bytes
    """The name of the function's attribute that the value comes from; empty where it has its own.
    """


def _integer_attributes(model: BinaryIO, end: int, message: str) -> Iterator[_IntegerAttribute]:
    """All that may be integers, of the message between here and ``end``."""
    if message == "AttributeProto":
        begin = model.tell()
        attribute = _integer_attribute(model, end)
        if attribute is not None:
            yield attribute
        model.seek(begin)
    for number, following in _fields(model, end):
        inner = _TO_ATTRIBUTES[message].get(number)
        if inner is not None:
            yield from _integer_attributes(model, following, inner)


def _integer_attribute(model: BinaryIO, end: int) -> _IntegerAttribute | None:
    begin = model.tell()
    numbers = dict(_numbers(model, end))
    if numbers.get(_ATTRIBUTE_TYPE, 0) not in _INTEGER_TYPES:
        return None
    model.seek(begin)
    texts = {
        number: model.read(following - model.tell())
        for number, following in _those(_fields(model, end), _ATTRIBUTE_NAME, _OUTER_NAME)
    }
    outer = texts.get(_OUTER_NAME, b"")
    value = numbers.get(_ATTRIBUTE_INTEGER, None if outer else 0)
    return _IntegerAttribute(texts.get(_ATTRIBUTE_NAME, b""), _signed(value), outer)


def _signed(value: int | None) -> int | None:
    """What a varint says of an int64."""
    if value is None:
        return None
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _scalars(model: BinaryIO, end: int) -> Iterator[str]:
    for _, graph_end in _those(_fields(model, end), _GRAPH):
        for _, value_end in _those(_fields(model, graph_end), _INPUT, _OUTPUT):
            name, rank = _name_and_rank(model, value_end)
            if rank == 0:
                yield name


def _version(model: BinaryIO, end: int) -> int:
    """Of an OperatorSetIdProto; 0 for those of others."""
    begin = model.tell()
    for _, domain_end in _those(_fields(model, end), _DOMAIN):
        if model.read(domain_end - model.tell()) not in (b"", b"ai.onnx"):
            return 0
    model.seek(begin)
    return dict(_numbers(model, end)).get(_VERSION, 0)


def _numbers(model: BinaryIO, end: int) -> Iterator[_Field]:
    """The fields with a number of the message between here and ``end``: theirs, and the value."""
    while model.tell() < end:
        tag = _varint(model)
        wire_type = tag & 7
        if wire_type == _VARINT:
            yield tag >> 3, _varint(model)
        else:
            size = _varint(model) if wire_type == _LENGTH else _fixed_size(wire_type)
            model.seek(size, os.SEEK_CUR)


def _name_and_rank(model: BinaryIO, end: int) -> tuple[str, int | None]:
    """Of a ValueInfoProto; None where any rank will do, or it is no tensor."""
    name, rank = "", None
    for number, following in _fields(model, end):
        if number == _NAME:
            name = model.read(following - model.tell()).decode()
        elif number == _TYPE:
            for _, tensor_end in _those(_fields(model, following), _TENSOR):
                for _, shape_end in _those(_fields(model, tensor_end), _SHAPE):
                    rank = sum(1 for _ in _those(_fields(model, shape_end), _DIMENSION))
    return name, rank


def _those(fields: Iterator[_Field], *numbers: int) -> Iterator[_Field]:
    return (field for field in fields if field[0] in numbers)


def _fields(model: BinaryIO, end: int) -> Iterator[_Field]:
    """Those that have a length, of the message between here and ``end``: number, and where it ends.

    The file is where the field begins, wherever it was left after the one before.
    """
    while model.tell() < end:
        tag = _varint(model)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _varint(model)
        elif wire_type == _LENGTH:
            size = _varint(model)
            following = model.tell() + size
            yield tag >> 3, following
            model.seek(following)
        else:
            model.seek(_fixed_size(wire_type), os.SEEK_CUR)


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
