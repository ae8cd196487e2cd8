"""The input of classify, regress and multi-inference: serialized tensorflow.Example records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.core.errors import InvalidArgument


def example_batch(examples: Sequence[bytes]) -> np.ndarray:
    """The examples as one string tensor of shape [rows]; they are never decoded.

    Raises InvalidArgument when there are none.
    """
    if not examples:
        raise InvalidArgument("Input is empty.")
    batch = np.empty(len(examples), np.object_)
    batch[:] = examples
    return batch
