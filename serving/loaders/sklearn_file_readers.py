"""Parts of an estimator that would open files which a client names."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

from serving.core.errors import InvalidArgument

_VECTORIZERS = (CountVectorizer, HashingVectorizer)  # and what inherits from them
_CONTENT = "content"
_NOT_PARTS = (
    *(str, bytes, int, float, complex, type(None)),
    *(type, ModuleType, FunctionType, BuiltinFunctionType),  # which lead to all of the program
)


def check_reads_no_files(estimator: Any) -> None:
    """Raise InvalidArgument where a part takes texts for names of files, or for open ones.

    Their content would be what the answers are about, and clients choose the names.
    """
    for part in _parts(estimator):
        if not isinstance(part, _VECTORIZERS):
            continue
        source = vars(part).get("input", _CONTENT)
        # An array that holds the word is equal to it as well.
        if type(source) is not str or source != _CONTENT:
            raise InvalidArgument(
                f"the model has a {type(part).__name__} that reads the files which requests name; "
                f"only input={_CONTENT!r} is served"
            )


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator and whatever is in it, at any depth and in any kind of container, each once."""
    left = [estimator]
    seen: dict[int, Any] = {}  # the parts themselves too: what is gone may leave its id to another
    while left:
        part = left.pop()
        if isinstance(part, _NOT_PARTS) or id(part) in seen:
            continue
        seen[id(part)] = part
        yield part
        left += gc.get_referents(part)
        if isinstance(part, np.ndarray) and part.dtype.hasobject:
            left.append(part.tolist())
