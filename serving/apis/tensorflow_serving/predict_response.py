"""PredictResponse messages, put together from what is prepared and the outputs' own memory."""

from __future__ import annotations

import numpy as np

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.model_spec import encode_model_spec
from serving.apis.tensorflow_serving.tensor_writer import (
    is_memory,
    memory,
    tensor_head,
    write_tensor,
)
from serving.apis.tensorflow_serving.wire import varint
from serving.core.dtypes import dtype_of
from serving.core.servable_id import ServableId
from serving.inference.predict import PredictResult

_MOST_PREPARED = 1024

_OUTPUTS_TAG = b"\x0a"
_MODEL_SPEC_TAG = b"\x12"
_KEY_TAG = b"\x0a"
_VALUE_TAG = b"\x12"


class PredictResponseWriter:
    """Serializes results of Predict: each output is copied once, into the response. Thread-safe.

    ``tensor_content`` writes the outputs there instead of in the typed fields. What does not depend
    on the values is kept, 1024 times at most: by alias, element type and shape of an output; by
    version and signature.
    """

    def __init__(self, *, tensor_content: bool = False) -> None:
        self._as_content = tensor_content
        # Written without a lock: two threads that prepare the same store the same.
        self._heads: dict[tuple[str, np.dtype, tuple[int, ...]], bytes] = {}
        self._model_specs: dict[tuple[ServableId, str], bytes] = {}

    def write(self, result: PredictResult) -> bytes:
        """The serialized PredictResponse. Raises InvalidArgument for an array of a type that
        tensors do not have.
        """
        parts: list[bytes | memoryview] = []
        for alias, array in result.outputs.items():
            head = self._heads.get((alias, array.dtype, array.shape))
            if head is not None:
                parts += (head, memory(array))
            else:
                parts += self._output(alias, array)
        key = (result.servable_id, result.signature_name)
        parts.append(self._model_specs.get(key) or self._model_spec(*key))
        return b"".join(parts)

    def _output(self, alias: str, array: np.ndarray) -> tuple[bytes, bytes | memoryview]:
        """What stands before the values of an output, and the values."""
        dtype = dtype_of(array)
        if not is_memory(dtype, as_content=self._as_content):
            tensor = write_tensor(array, as_content=self._as_content)
            return _entry_head(alias, len(tensor)), tensor
        head = tensor_head(dtype, array.shape, array.nbytes, as_content=self._as_content)
        head = _entry_head(alias, len(head) + array.nbytes) + head
        if len(self._heads) >= _MOST_PREPARED:
            self._heads.clear()
        self._heads[alias, array.dtype, array.shape] = head
        return head, memory(array)

    def _model_spec(self, servable_id: ServableId, signature_name: str) -> bytes:
        message = protos.ModelSpec()
        encode_model_spec(servable_id, message, signature_name)
        encoded: bytes = message.SerializeToString()
        field = _MODEL_SPEC_TAG + varint(len(encoded)) + encoded
        if len(self._model_specs) >= _MOST_PREPARED:
            self._model_specs.clear()
        self._model_specs[servable_id, signature_name] = field
        return field


def _entry_head(alias: str, tensor_size: int) -> bytes:
    """What stands before a tensor of so many bytes in the map of outputs."""
    key = alias.encode()
    head = _KEY_TAG + varint(len(key)) + key + _VALUE_TAG + varint(tensor_size)
    return _OUTPUTS_TAG + varint(len(head) + tensor_size) + head
