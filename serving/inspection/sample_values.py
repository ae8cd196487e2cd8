"""Values that a model may take, made from no more than the types and shapes of a signature."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import Signature, TensorInfo
from serving.inspection.filled import Filled

_MOST_ELEMENTS = 2**22
_FLOATING = {DType.FLOAT, DType.DOUBLE, DType.HALF, DType.BFLOAT16}
_FLOATING |= {DType.FLOAT8_E5M2, DType.FLOAT8_E4M3FN, DType.COMPLEX64, DType.COMPLEX128}
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


class _Filling(NamedTuple):
    """What signatures leave open: sizes other than of rows, the rank where there is none, numbers
    and texts.
    """

    size: int = 1
    rank: int = 1
    number: int = 1
    text: bytes = b"text"


_FILLINGS = (
    _Filling(),
    _Filling(number=0),
    *(_Filling(size=size) for size in (2, 8, 32, 224)),
    *(_Filling(rank=rank) for rank in (0, 2, 4)),
    _Filling(text=b"0"),
    _Filling(text=_PIXEL),
)
"""In which order they are tried: models that look up, convolve or decode take not everything."""


def inputs_to_try(signature: Signature) -> Iterator[Mapping[str, Filled]]:
    """Inputs of one row, those first that most models take; all are different.

    Raises InvalidArgument where the model says no types, or nothing small fits its shapes.
    """
    for alias, info in signature.inputs.items():
        if info.dtype is DType.INVALID:
            raise InvalidArgument(
                f"the model does not say which type input {alias!r} has; a signature.json beside "
                "it can"
            )
    before: list[Mapping[str, Filled]] = []
    for filling in _FILLINGS:
        inputs = {alias: _filled(info, filling) for alias, info in signature.inputs.items()}
        if sum(math.prod(each.shape) for each in inputs.values()) > _MOST_ELEMENTS:
            continue
        if inputs not in before:
            before.append(inputs)
            yield inputs
    if not before:
        raise InvalidArgument("its inputs are too large for a sample")


def has_rows(signature: Signature) -> bool:
    """Whether the first dimension of all inputs may have any size, so that it counts rows."""
    return bool(signature.inputs) and all(
        info.shape is not None and info.shape[:1] == (None,) for info in signature.inputs.values()
    )


def _filled(info: TensorInfo, filling: _Filling) -> Filled:
    if info.shape is None:
        shape: tuple[int, ...] = (1,) + (filling.size,) * (filling.rank - 1) if filling.rank else ()
    else:
        rows = 1 if info.shape[:1] == (None,) else None
        shape = tuple(filling.size if size is None else size for size in info.shape)
        shape = shape if rows is None else (rows, *shape[1:])
    return Filled(info.dtype, shape, _value(info.dtype, filling))


def _value(dtype: DType, filling: _Filling) -> object:
    if dtype is DType.STRING:
        return filling.text
    if dtype is DType.BOOL:
        return bool(filling.number)
    return filling.number / 2 if dtype in _FLOATING else filling.number
