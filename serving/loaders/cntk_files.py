"""The file of a CNTK model, and what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.generated.cntk_model_pb2 import Dictionary
from serving.loaders.cntk_values import Values
from serving.loaders.model_file import model_file, read_model

SUFFIXES = (".model", ".dnn", ".cntkmodel")
_CNTK_1 = "BCN".encode("utf-16-le")
_BLOCK = 57


@dataclass(frozen=True, slots=True)
class CntkModel:
    """Functions and variables by their uids, those within blocks included.

    ``arguments`` are the variables that blocks have for their inputs, with what these are outside.
    """

    root: str
    functions: Mapping[str, Values]
    variables: Mapping[str, Values]
    arguments: Mapping[str, str]


def cntk_file(path: str) -> Path:
    """Raises as :func:`model_file` does."""
    return model_file(path, SUFFIXES)


def read_cntk(path: str) -> CntkModel:
    """The model of the version directory ``path``.

    Raises FailedPrecondition for a model of CNTK 1, InvalidArgument for what is none, and what
    :func:`model_file` raises.
    """
    file = cntk_file(path)
    content = read_model(file)
    if content.startswith(_CNTK_1):
        raise FailedPrecondition(f"{file.name} is a model of CNTK 1; save it with CNTK 2")
    dictionary = Dictionary()
    try:
        dictionary.ParseFromString(content)
    except DecodeError as error:
        raise InvalidArgument(f"{file.name} is no model of CNTK 2, or is damaged") from error
    try:
        return _model(Values(dictionary))
    except InvalidArgument as error:
        raise InvalidArgument(f"{file.name} is no model of CNTK 2: {error.message}") from error


def _model(top: Values) -> CntkModel:
    functions: dict[str, Values] = {}
    variables: dict[str, Values] = {}
    arguments: dict[str, str] = {}
    composites = [top]
    while composites:
        composite = composites.pop()
        variables |= {each.text("uid"): each for each in _listed(composite, "inputs")}
        for function in _listed(composite, "primitive_functions"):
            functions[function.text("uid")] = function
            if function.integer("op", -1) == _BLOCK:
                composites.append(function.dictionary("block_function_composite"))
                arguments |= _arguments(function)
    if top.text("type") != "CompositeFunction" or not functions:
        raise InvalidArgument("it has no functions")
    return CntkModel(top.text("root"), functions, variables, arguments)


def _listed(composite: Values, key: str) -> list[Values]:
    """A block's functions and variables stand in the model's own lists, or in its own."""
    return list(composite.dictionaries(key)) if key in composite else []


def _arguments(block: Values) -> dict[str, str]:
    key = "block_function_composite_arguments_map"
    inside, outside = block.texts(f"{key}_keys"), block.texts(f"{key}_values")
    if len(inside) != len(outside):
        raise InvalidArgument("a block has more arguments than inputs")
    return dict(zip(inside, outside, strict=True))
