"""The ``cntk`` platform: models of CNTK 2, converted to ONNX as they load, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.cntk_files import cntk_file
from serving.loaders.cntk_onnx import cntk_to_onnx
from serving.loaders.device import Device
from serving.loaders.model_file import ram_of_file
from serving.loaders.onnx_builder import serialized
from serving.loaders.onnx_loader import RAM_PER_BYTE_ON_DISK, OnnxPlatform


class CntkPlatform:
    """Loads the one file of a version directory. Thread-safe."""

    def __init__(self) -> None:
        self._onnx = OnnxPlatform()

    @property
    def devices(self) -> Sequence[Device]:
        """Onnxruntime's."""
        return self._onnx.devices

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory as of an ONNX model of its size. Raises as :func:`cntk_file` does."""
        return ram_of_file(cntk_file(path), RAM_PER_BYTE_ON_DISK)

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """Raises what :func:`cntk_to_onnx` and :meth:`OnnxPlatform.load_model` raise."""
        return self._onnx.load_model(servable_id, serialized(cntk_to_onnx(path)), path, device)
