"""Memory that begins where vector instructions like it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_ALIGNMENT_BYTES = 64
_WORTH_IT_BYTES = 2**16
"""Of less a copy costs no more than to look for the place where the memory is to begin."""


def aligned_empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """As np.empty; what is large begins at a multiple of 64 bytes, unless it holds objects."""
    size_bytes = math.prod(shape) * dtype.itemsize
    if size_bytes < _WORTH_IT_BYTES or dtype.hasobject:
        return np.empty(shape, dtype)
    memory = np.empty(size_bytes + _ALIGNMENT_BYTES, np.uint8)
    offset = -memory.ctypes.data % _ALIGNMENT_BYTES
    return np.ndarray(shape, dtype, memory, offset)
