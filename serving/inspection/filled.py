"""Tensors that hold one value everywhere, and how to write documents of them."""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

import numpy as np

from serving.core.dtypes import DType, numpy_dtype


class Filled(NamedTuple):
    """A tensor of ``value`` everywhere: a number, a truth value, or bytes for strings."""

    dtype: DType
    shape: tuple[int, ...]
    value: Any

    @property
    def row(self) -> Filled:
        """Without the first dimension."""
        return self._replace(shape=self.shape[1:])

    def array(self, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """Its elements, in this shape or its own."""
        filled = np.empty(self.shape if shape is None else shape, numpy_dtype(self.dtype))
        filled.fill(self.value)
        return filled

    def element(self) -> Any:
        """The value as JSON of the REST API has it."""
        if self.dtype is not DType.STRING:
            return self.value
        try:
            return self.value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(self.value).decode()}


def as_json(tree: Any) -> Any:
    """A document with lists for its :class:`Filled`."""
    if isinstance(tree, Filled):
        nested = tree.element()
        for size in reversed(tree.shape):
            nested = [nested] * size
        return nested
    if isinstance(tree, dict):
        return {key: as_json(value) for key, value in tree.items()}
    return [as_json(value) for value in tree] if isinstance(tree, list) else tree


def as_python(tree: Any) -> str:
    """The same as an expression of Python, which repeats lists instead of writing them out."""
    if isinstance(tree, Filled):
        text = repr(tree.element())
        for size in reversed(tree.shape):
            text = f"[{text}]" if size == 1 else f"[{text}] * {size}"
        return text
    if isinstance(tree, dict):
        entries = (f"{json.dumps(key)}: {as_python(value)}" for key, value in tree.items())
        return f"{{{', '.join(entries)}}}"
    if isinstance(tree, list):
        return f"[{', '.join(map(as_python, tree))}]"
    return repr(tree)
