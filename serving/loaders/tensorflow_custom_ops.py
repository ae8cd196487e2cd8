"""Operations that TensorFlow does not have itself, from shared libraries."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from serving.core.errors import InvalidArgument

log = logging.getLogger(__name__)


def load_custom_ops(paths: Iterable[str]) -> None:
    """Load each library, or each ``*.so`` of a directory in the order of their names.

    Their operations are the process's from then on. Raises InvalidArgument naming what can not be
    loaded, or a directory that holds none.
    """
    for path in paths:
        for library in _libraries(Path(path)):
            try:
                tf.load_op_library(str(library))
            except (tf.errors.OpError, RuntimeError, OSError) as error:
                raise InvalidArgument(
                    f"custom_op_libraries: '{library}' can not be loaded: {error}"
                ) from error
            log.info("operations of %s loaded", library)


def _libraries(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(child for child in path.iterdir() if child.suffix == ".so")
    if not found:
        raise InvalidArgument(f"custom_op_libraries: there is no .so in '{path}'")
    return found
