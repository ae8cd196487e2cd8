"""PyTorch's tensors and numpy's arrays, of the same memory where they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import InvalidArgument

ELEMENT_TYPES: Mapping[torch.dtype, DType] = {
    torch.float32: DType.FLOAT,
    torch.float64: DType.DOUBLE,
    torch.float16: DType.HALF,
    torch.bfloat16: DType.BFLOAT16,
    torch.float8_e5m2: DType.FLOAT8_E5M2,
    torch.float8_e4m3fn: DType.FLOAT8_E4M3FN,
    torch.int8: DType.INT8,
    torch.int16: DType.INT16,
    torch.int32: DType.INT32,
    torch.int64: DType.INT64,
    torch.uint8: DType.UINT8,
    torch.uint16: DType.UINT16,
    torch.uint32: DType.UINT32,
    torch.uint64: DType.UINT64,
    torch.bool: DType.BOOL,
}
"""The types that travel, of those that PyTorch has."""

_CARRIERS = {
    torch.bfloat16: torch.int16,
    torch.float8_e5m2: torch.uint8,
    torch.float8_e4m3fn: torch.uint8,
}
"""What PyTorch and numpy exchange the types as that numpy has from elsewhere."""
_FROM_NUMPY = {numpy_dtype(dtype): kind for kind, dtype in ELEMENT_TYPES.items()}
_NUMPY_CARRIERS: Mapping[torch.dtype, np.dtype] = {
    torch.int16: np.dtype(np.int16),
    torch.uint8: np.dtype(np.uint8),
}


class _Writable:
    """Memory of an array that is read-only, which PyTorch has no word for and warns of.

    Only models that write to none of their inputs are given it.
    """

    def __init__(self, array: np.ndarray) -> None:
        self._array = array  # kept alive by what refers to this
        interface: dict[str, Any] = dict(array.__array_interface__)
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def tensor_of(array: np.ndarray, *, own: bool) -> torch.Tensor:
    """The array as a tensor, of the same memory unless it is to have its ``own``.

    Raises InvalidArgument for a type that PyTorch does not have.
    """
    kind = _FROM_NUMPY.get(array.dtype)
    if kind is None:
        raise InvalidArgument(f"PyTorch has no tensors of numpy's type {array.dtype}")
    if own or not array.flags.aligned or not array.flags.c_contiguous:
        array = array.copy()
    carrier = _CARRIERS.get(kind)
    if carrier is not None:
        array = array.view(_NUMPY_CARRIERS[carrier])
    if not array.flags.writeable:
        array = np.asarray(_Writable(array))
    tensor = torch.from_numpy(array)
    return tensor if carrier is None else tensor.view(kind)


def array_of(name: str, tensor: object, *, own: bool = False) -> np.ndarray:
    """A read-only array of an output's values, of the same memory where that is main memory,
    unless it is to have its ``own``.

    Raises InvalidArgument for what is no tensor of a type in ELEMENT_TYPES.
    """
    if not isinstance(tensor, torch.Tensor):
        raise InvalidArgument(f"output '{name}' is no tensor but {type(tensor).__name__}")
    dtype = element_type(f"output '{name}'", tensor.dtype)
    if tensor.layout is not torch.strided:
        raise InvalidArgument(f"output '{name}' is {tensor.layout}, which is not supported")
    values = tensor.detach().cpu().resolve_neg()
    if own:  # the next run may write to the model's memory
        values = values.clone()
    carrier = _CARRIERS.get(tensor.dtype)
    if carrier is not None:
        values = values.contiguous().view(carrier)
    array: np.ndarray = values.numpy()
    if carrier is not None:
        array = array.view(numpy_dtype(dtype))
    array.flags.writeable = False  # it may be memory of the model
    return array


def element_type(tensor: str, kind: torch.dtype) -> DType:
    """Raises InvalidArgument naming the ``tensor`` for a type that does not travel."""
    try:
        return ELEMENT_TYPES[kind]
    except KeyError:
        raise InvalidArgument(f"{tensor} is {kind}, which is not supported") from None


def pinned_empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """As np.empty, in page-locked memory, from which a GPU copies without a detour."""
    size_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True).numpy()
    buffer: np.ndarray = memory.view(dtype).reshape(shape)
    return buffer
