"""PredictRequest messages, read where they lie.

A client that sends requests of one kind sends the same bytes around the values again and again.
So what a request's bytes mean is worked out once, into a :class:`PredictLayout`, and found again
by comparing those bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.messages import parse
from serving.apis.tensorflow_serving.model_spec import model_of
from serving.apis.tensorflow_serving.tensor_codec import TensorMap
from serving.apis.tensorflow_serving.tensor_reader import TensorLayout, scan_tensor
from serving.apis.tensorflow_serving.wire import read_span, read_varint
from serving.core.models import ModelSpec
from serving.inference.predict import PredictRequest

_MOST_FIELDS = 256
_MOST_KNOWN = 256
_MOST_KNOWN_OF_A_LENGTH = 8
_MOST_BYTES_AROUND_VALUES = 2048


class PredictLayout(NamedTuple):
    """What the bytes of a request mean: all but the values, which are in ``tensors``, by alias."""

    model: ModelSpec
    signature_name: str
    output_filter: tuple[str, ...]
    tensors: Mapping[str, TensorLayout]

    def inputs(self, data: bytes) -> dict[str, np.ndarray]:
        """The arrays of a request with this layout, read-only views where that can be.

        They are not always aligned. Raises ValueError for values that protobuf has to read.
        """
        return {alias: layout.read(data, layout) for alias, layout in self.tensors.items()}


class _Known(NamedTuple):
    """A layout, and the bytes around the values with their places: they prove it."""

    around: tuple[tuple[bytes, int], ...]
    layout: PredictLayout


class PredictRequestReader:
    """Reads PredictRequests, and remembers the layouts of the last ones. Thread-safe.

    At most 256 layouts are remembered, of requests with at most 2 KiB around their values: some
    20 MiB if clients do their worst, usually a few KiB.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[_Known, ...]] = {}
        self._count = 0

    def read(self, data: bytes) -> tuple[ModelSpec | None, PredictRequest]:
        """The model that is asked for, None without a model_spec, and the request to it.

        What is not laid out as usual is read by protobuf. Raises Internal for bytes that are not a
        PredictRequest. A tensor that cannot be read raises InvalidArgument when it is looked up.
        """
        layout = self._find(data) or self._learn(data)
        if layout is not None:
            try:
                inputs = layout.inputs(data)
            except (ValueError, IndexError):
                return _parsed(data)
            return layout.model, PredictRequest(layout.signature_name, inputs, layout.output_filter)
        return _parsed(data)

    def _find(self, data: bytes) -> PredictLayout | None:
        for around, layout in self._known.get(len(data), ()):
            for piece, position in around:
                if not data.startswith(piece, position):
                    break
            else:
                return layout
        return None

    def _learn(self, data: bytes) -> PredictLayout | None:
        try:
            layout = scan(data)
        except (ValueError, IndexError):
            return None
        around = _around_values(data, layout)
        if around is not None:
            self._remember(len(data), _Known(around, layout))
        return layout

    def _remember(self, length: int, known: _Known) -> None:
        with self._lock:
            if self._count >= _MOST_KNOWN:
                self._known.clear()
                self._count = 0
            others = self._known.get(length, ())[: _MOST_KNOWN_OF_A_LENGTH - 1]
            self._known[length] = (known, *others)
            self._count += 1


def scan(data: bytes) -> PredictLayout:
    """The layout of a PredictRequest.

    Raises ValueError or IndexError for bytes that are not one, and for those that are laid out in
    another way than clients write them: with fields that are split, repeated, unknown or in
    another order, with very many of them, or with tensors that :func:`scan_tensor` leaves alone.
    """
    spec: tuple[ModelSpec, str] | None = None
    tensors: dict[str, TensorLayout] = {}
    output_filter: list[str] = []
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        start, position = read_span(data, position + 1, end)
        if tag == 0x12:
            alias, first = _read_text(data, start, position, 0x0A)
            if alias in tensors or len(tensors) == _MOST_FIELDS:
                raise ValueError("an input comes twice, or very many do")
            tensors[alias] = _scan_input(data, first, position)
        elif tag == 0x0A and spec is None:
            spec = _scan_model_spec(data, start, position)
        elif tag == 0x1A and len(output_filter) < _MOST_FIELDS:
            output_filter.append(data[start:position].decode())
        else:
            raise ValueError("an unusual field")
    if spec is None:
        raise ValueError("no model_spec")
    return PredictLayout(*spec, tuple(output_filter), tensors)


def _scan_input(data: bytes, position: int, end: int) -> TensorLayout:
    """The value of an entry of the map, which fills the rest of it."""
    if position >= end or data[position] != 0x12:
        raise ValueError("an input without a tensor")
    start, stop = read_span(data, position + 1, end)
    if stop != end:
        raise ValueError("something follows the tensor")
    return scan_tensor(data, start, end)


def _scan_model_spec(data: bytes, position: int, end: int) -> tuple[ModelSpec, str]:
    """The model and the name of the signature."""
    name, position = _read_text(data, position, end, 0x0A)
    version, position = _read_version(data, position, end)
    signature_name, position = _read_text(data, position, end, 0x1A)
    label = None
    if position < end:
        label, position = _read_text(data, position, end, 0x22)
    if position != end or (label is not None and version is not None):
        raise ValueError("an unusual model_spec")
    return ModelSpec(name, version, label), signature_name


def _read_text(data: bytes, position: int, end: int, tag: int) -> tuple[str, int]:
    """The string with this tag, or the empty one where another field comes, and what is behind."""
    if position >= end or data[position] != tag:
        return "", position
    start, stop = read_span(data, position + 1, end)
    return data[start:stop].decode(), stop


def _read_version(data: bytes, position: int, end: int) -> tuple[int | None, int]:
    """The Int64Value in a model_spec, if there is one, and the position behind it."""
    if position >= end or data[position] != 0x12:
        return None, position
    start, stop = read_span(data, position + 1, end)
    if start == stop:
        return 0, stop
    version, after = read_varint(data, start + 1)
    if data[start] != 0x08 or after != stop:
        raise ValueError("an unusual version")
    return version, stop


def _around_values(data: bytes, layout: PredictLayout) -> tuple[tuple[bytes, int], ...] | None:
    """The bytes around the values with their places; None where the values' places may change."""
    around: list[tuple[bytes, int]] = []
    position = size = 0
    for tensor in layout.tensors.values():
        if not tensor.sized:
            return None
        around.append((data[position : tensor.start], position))
        size += tensor.start - position
        position = tensor.stop
    size += len(data) - position
    if size > _MOST_BYTES_AROUND_VALUES:
        return None
    if position < len(data):
        around.append((data[position:], position))
    return tuple(around)


def _parsed(data: bytes) -> tuple[ModelSpec | None, PredictRequest]:
    return decode_predict_request(parse(protos.PredictRequest, data))


def decode_predict_request(
    message: protos.PredictRequest,
) -> tuple[ModelSpec | None, PredictRequest]:
    """As :meth:`PredictRequestReader.read`, of a message that is parsed already."""
    inputs = TensorMap(message.inputs)
    request = PredictRequest(
        message.model_spec.signature_name, inputs, tuple(message.output_filter)
    )
    return model_of(message), request
