"""Platforms whose models are converted to ONNX as they load, and run by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.model_file import ram_of_file
from serving.loaders.onnx_builder import serialized
from serving.loaders.onnx_loader import RAM_PER_BYTE_ON_DISK, OnnxPlatform

if TYPE_CHECKING:
    import onnx


class ConvertedPlatform:
    """A platform of what ``convert`` makes of a version directory. Thread-safe."""

    def __init__(
        self,
        weights: Callable[[str], Iterable[Path]],
        convert: Callable[[str], onnx.ModelProto],
    ) -> None:
        """``weights`` are the files of a version whose size is that of its model."""
        self._weights = weights
        self._convert = convert
        self._onnx = OnnxPlatform()

    @property
    def devices(self) -> Sequence[Device]:
        """Onnxruntime's."""
        return self._onnx.devices

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory as of an ONNX model of its size. Raises as ``weights`` does."""
        files = [ram_of_file(file, RAM_PER_BYTE_ON_DISK) for file in self._weights(path)]
        return sum(files, ResourceAllocation())

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """Raises what ``convert`` and :meth:`OnnxPlatform.load_model` raise."""
        return self._onnx.load_model(servable_id, serialized(self._convert(path)), path, device)
