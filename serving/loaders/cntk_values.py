"""The values in CNTK's dictionaries, by key and kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.generated.cntk_model_pb2 import Axis, Dictionary, DictionaryValue, NDArrayView

_FREE, _INFERRED = 2**64 - 3, 2**64 - 1  # sizes: told by each request, by the other ones
_DTYPES: dict[int, np.dtype] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    4: np.dtype(np.float16),
}
_DENSE = 0


class Values:
    """Each method gives the value of a key. Raises InvalidArgument for a value of another kind,
    and for a key that is not there where there is no default.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self._data = dictionary.data

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def text(self, key: str, default: str | None = None) -> str:
        if default is not None and key not in self._data:
            return default
        return self._of(key, "string_value").string_value

    def flag(self, key: str, default: bool = False) -> bool:
        return self._of(key, "bool_value").bool_value if key in self._data else default

    def integer(self, key: str, default: int | None = None) -> int:
        if default is not None and key not in self._data:
            return default
        return _integer(key, self._of(key, "int_value", "size_t_value"))

    def number(self, key: str, default: float) -> float:
        if key not in self._data:
            return default
        value = self._of(key, "float_value", "double_value")
        return value.float_value if value.HasField("float_value") else value.double_value

    def sizes(self, key: str) -> Sequence[int | None]:
        """Of an array in numpy's order, -1 for one that the others tell, None for any; empty
        without the key.
        """
        if key not in self._data:
            return ()
        dims = self._of(key, "nd_shape_value").nd_shape_value.shape_dim
        return [_size(key, dim) for dim in reversed(dims)]

    def axis(self, key: str) -> Axis:
        return self._of(key, "axis_value").axis_value

    def axes(self, key: str) -> Sequence[Axis]:
        return [_checked(key, each, "axis_value").axis_value for each in self._vector(key)]

    def texts(self, key: str) -> Sequence[str]:
        return [_checked(key, each, "string_value").string_value for each in self._vector(key)]

    def integers(self, key: str) -> Sequence[int]:
        return [
            _integer(key, _checked(key, each, "int_value", "size_t_value"))
            for each in self._vector(key)
        ]

    def flags(self, key: str) -> Sequence[bool]:
        """In numpy's order of dimensions; empty without the key."""
        if key not in self._data:
            return ()
        return [
            _checked(key, each, "bool_value").bool_value for each in reversed(self._vector(key))
        ]

    def dictionary(self, key: str) -> Values:
        return Values(self._of(key, "dictionary_value").dictionary_value)

    def dictionaries(self, key: str) -> Sequence[Values]:
        return [
            Values(_checked(key, each, "dictionary_value").dictionary_value)
            for each in self._vector(key)
        ]

    def array(self, key: str) -> np.ndarray:
        """Weights. Raises FailedPrecondition for sparse ones."""
        return _array(self._of(key, "nd_array_view_value").nd_array_view_value)

    def _vector(self, key: str) -> Sequence[DictionaryValue]:
        return self._of(key, "vector_value").vector_value.value

    def _of(self, key: str, *kinds: str) -> DictionaryValue:
        if key not in self._data:
            raise InvalidArgument(f"'{key}' is missing")
        return _checked(key, self._data[key], *kinds)


def dtype_of_number(number: int) -> np.dtype:
    """CNTK's number of an element type. Raises FailedPrecondition for one that is not read."""
    if number not in _DTYPES:
        raise FailedPrecondition(f"elements of CNTK's type {number} are not supported")
    return _DTYPES[number]


def _checked(key: str, value: DictionaryValue, *kinds: str) -> DictionaryValue:
    if value.WhichOneof("value") not in kinds:
        raise InvalidArgument(f"'{key}' is not what it has to be, {kinds[0]}")
    return value


def _integer(key: str, value: DictionaryValue) -> int:
    number = value.int_value if value.HasField("int_value") else value.size_t_value
    if number >= 2**63:
        raise InvalidArgument(f"'{key}' is {number}, which is too large")
    return number


def _size(key: str, size: int) -> int | None:
    if size == _FREE:
        return None
    if size == _INFERRED:
        return -1
    if size >= 2**31:
        raise InvalidArgument(f"'{key}' has the size {size}")
    return size


def _array(view: NDArrayView) -> np.ndarray:
    if view.storage_format != _DENSE:
        raise FailedPrecondition("weights that are sparse are not supported")
    dtype = dtype_of_number(view.data_type)
    kind = view.WhichOneof("values")
    if kind == "double_values":
        given = np.array(view.double_values.value, np.float64)
    elif kind == "float_values":
        given = np.array(view.float_values.value, np.float32)
    else:
        raise InvalidArgument("weights have no values")
    sizes = tuple(reversed(view.shape.shape_dim))
    count = 1
    for size in sizes:
        count *= size
    if count != given.size:
        raise InvalidArgument(f"weights of the shape {list(sizes)} have {given.size} values")
    return given.astype(dtype, copy=False).reshape(sizes)
