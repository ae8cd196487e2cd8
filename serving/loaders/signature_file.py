"""``signature.json``, which says what a model takes and gives where its own files do not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import TensorInfo
from serving.loaders.model_file import unreadable

SIGNATURE_FILE = "signature.json"

_NUMPY_NAMES = {
    "float16": DType.HALF,
    "float32": DType.FLOAT,
    "float64": DType.DOUBLE,
    "str": DType.STRING,
}
_DTYPES: Mapping[str, DType] = _NUMPY_NAMES | {
    dtype.label: dtype
    for dtype in (
        DType.FLOAT,
        DType.DOUBLE,
        DType.HALF,
        DType.BFLOAT16,
        DType.INT8,
        DType.INT16,
        DType.INT32,
        DType.INT64,
        DType.UINT8,
        DType.UINT16,
        DType.UINT32,
        DType.UINT64,
        DType.BOOL,
        DType.STRING,
        DType.COMPLEX64,
        DType.COMPLEX128,
    )
}
"""Tensors' names of types, and numpy's."""


@dataclass(frozen=True, slots=True)
class DeclaredSignature:
    """Inputs and outputs by name, in the file's order; None where it says nothing of them."""

    inputs: Mapping[str, TensorInfo] | None = None
    outputs: Mapping[str, TensorInfo] | None = None


def read_signature_file(path: str) -> DeclaredSignature:
    """What the ``signature.json`` in a version directory declares; nothing where there is none.

    Raises InvalidArgument, naming the place in the file, for one that is not as documented.
    """
    file = Path(path) / SIGNATURE_FILE
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return DeclaredSignature()
    except UnicodeDecodeError:
        raise _wrong(f"{SIGNATURE_FILE}: it", "is not UTF-8") from None
    except OSError as error:
        raise unreadable(error) from error
    return parse_signature(text, SIGNATURE_FILE)


def parse_signature(text: str, source: str) -> DeclaredSignature:
    """What a text of that form declares; ``source`` is where it stands, for errors.

    Raises InvalidArgument, naming the place in it, for one that is not as documented.
    """
    try:
        document = json.loads(text, object_pairs_hook=partial(_object, source))
    except (ValueError, RecursionError) as error:  # also of an integer that has too many digits
        raise InvalidArgument(f"{source} is no JSON: {error}") from None
    _check_keys(f"{source}: it", document, frozenset({"inputs", "outputs"}))
    return DeclaredSignature(
        _tensors(source, document, "inputs"), _tensors(source, document, "outputs")
    )


def _object(source: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _wrong(f"{source}: {twice!r}", "stands twice in one object")
    return made


def _tensors(
    source: str, document: Mapping[str, Any], role: str
) -> Mapping[str, TensorInfo] | None:
    if role not in document:
        return None
    tensors, where = document[role], f"{source}: {role}"
    if not isinstance(tensors, dict) or not tensors or "" in tensors:
        raise _wrong(where, "must be an object with a name for each tensor, and one at least")
    for name in tensors:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise _wrong(where, f"has a name that can not be written in UTF-8, {_shown(name)}")
    return {name: _tensor(f"{where}.{name}", name, value) for name, value in tensors.items()}


def _tensor(where: str, name: str, value: Any) -> TensorInfo:
    _check_keys(where, value, frozenset({"dtype", "shape"}))
    dtype = value.get("dtype")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        known = ", ".join(sorted(_DTYPES))
        raise _wrong(f"{where}.dtype", f"must be one of {known}, not {_shown(dtype)}")
    return TensorInfo(name, _DTYPES[dtype], _shape(f"{where}.shape", value.get("shape")))


def _shape(where: str, value: Any) -> tuple[int | None, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(_is_size(size) for size in value):
        raise _wrong(where, f"must be a list of sizes, null for any size, not {_shown(value)}")
    return tuple(None if size == -1 else size for size in value)


def _is_size(value: Any) -> bool:
    return value is None or (type(value) is int and value >= -1)


def _check_keys(where: str, value: Any, known: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise _wrong(where, f"must be an object, not {_shown(value)}")
    if unknown := sorted(value.keys() - known):
        listed = " and ".join(sorted(known))
        raise _wrong(where, f"may have {listed}, not {unknown[0]!r}")


def _wrong(where: str, text: str) -> InvalidArgument:
    return InvalidArgument(f"{where} {text}")


def _shown(value: Any) -> str:
    """As JSON, at most so long that it fits into a message."""
    return json.dumps(value)[:80]
