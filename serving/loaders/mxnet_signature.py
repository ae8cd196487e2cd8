"""What the files beside an MXNet model say of its inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import TensorInfo
from serving.loaders.model_file import unreadable
from serving.loaders.signature_file import SIGNATURE_FILE, read_signature_file

_DTYPES = frozenset(
    {
        DType.FLOAT,
        DType.DOUBLE,
        DType.HALF,
        DType.UINT8,
        DType.INT8,
        DType.INT32,
        DType.INT64,
        DType.BOOL,
    }
)
_NAME, _SHAPE = "data_name", "data_shape"


@dataclass(frozen=True, slots=True)
class Declared:
    """An input or output; of what is None nothing is said."""

    name: str
    dtype: DType | None
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class MXNetSignature:
    """Inputs and outputs in the file's order; None where nothing is said of them."""

    inputs: Sequence[Declared] | None = None
    outputs: Sequence[Declared] | None = None


def read_mxnet_signature(file: Path) -> MXNetSignature:
    """What ``file`` says, in the form of simple_tensorflow_serving, or else ``signature.json``
    beside it, which may be in that form too; nothing where there is neither.

    Raises InvalidArgument, naming the place, for a file that is not as documented.
    """
    document = _document(file)
    if document is not None:
        return _listed(file.name, document)
    beside = file.parent / SIGNATURE_FILE
    document = _document(beside)
    if isinstance(document, dict) and any(
        isinstance(document.get(role), list) for role in ("inputs", "outputs")
    ):
        return _listed(SIGNATURE_FILE, document)
    declared = read_signature_file(str(file.parent))
    return MXNetSignature(_of_tensors(declared.inputs), _of_tensors(declared.outputs))


def _document(file: Path) -> Any:
    """None where there is no file."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(error) from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{file.name} is no JSON: {error}") from None


def _of_tensors(tensors: Mapping[str, TensorInfo] | None) -> Sequence[Declared] | None:
    if tensors is None:
        return None
    for name, info in tensors.items():
        if info.dtype not in _DTYPES:
            raise InvalidArgument(
                f"{SIGNATURE_FILE}: '{name}' can not be {info.dtype.label}, which MXNet has not"
            )
    return [Declared(name, info.dtype, info.shape) for name, info in tensors.items()]


def _listed(file: str, document: Any) -> MXNetSignature:
    if not isinstance(document, dict):
        raise InvalidArgument(f"{file}: it must be an object")
    return MXNetSignature(
        inputs=[
            Declared(name, None, _of_any_batch(shape))
            for name, shape in _tensors(file, document, "inputs")
        ]
        or None,
        outputs=[Declared(name, None, None) for name, _ in _tensors(file, document, "outputs")]
        or None,
    )


def _tensors(
    file: str, document: Mapping[str, Any], role: str
) -> Sequence[tuple[str, Sequence[int]]]:
    tensors = document.get(role, [])
    if not isinstance(tensors, list):
        raise InvalidArgument(f"{file}: {role} must be a list")
    found: list[tuple[str, Sequence[int]]] = []
    for number, tensor in enumerate(tensors):
        where = f"{file}: {role}[{number}]"
        name = tensor.get(_NAME) if isinstance(tensor, dict) else None
        if not isinstance(name, str) or not name or not name.isprintable():
            raise InvalidArgument(f"{where}.{_NAME} must be a name")
        if name in [other for other, _ in found]:
            raise InvalidArgument(f"{file}: {role} has '{name}' twice")
        shape = tensor.get(_SHAPE, [])
        if not isinstance(shape, list) or not all(type(size) is int for size in shape):
            raise InvalidArgument(f"{where}.{_SHAPE} must be a list of sizes")
        found.append((name, shape))
    return found


def _of_any_batch(shape: Sequence[int]) -> tuple[int | None, ...] | None:
    """The sizes are those of a batch, of which the first may be any; 0 and -1 are any as well."""
    if not shape:
        return None
    return (None, *(size if size > 0 else None for size in shape[1:]))
