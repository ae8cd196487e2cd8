"""The ``mxnet`` platform: models of MXNet, converted to ONNX as they load, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.model_file import ram_of_file
from serving.loaders.mxnet_files import mxnet_files
from serving.loaders.mxnet_onnx import mxnet_to_onnx
from serving.loaders.onnx_builder import serialized
from serving.loaders.onnx_loader import RAM_PER_BYTE_ON_DISK, OnnxPlatform


class MXNetPlatform:
    """Loads the symbol and the parameters of a version directory. Thread-safe."""

    def __init__(self) -> None:
        self._onnx = OnnxPlatform()

    @property
    def devices(self) -> Sequence[Device]:
        """Onnxruntime's."""
        return self._onnx.devices

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory as of an ONNX model of their size. Raises as :func:`mxnet_files` does."""
        return ram_of_file(mxnet_files(path).params, RAM_PER_BYTE_ON_DISK)

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """Raises what :func:`mxnet_to_onnx` and :meth:`OnnxPlatform.load_model` raise."""
        return self._onnx.load_model(servable_id, serialized(mxnet_to_onnx(path)), path, device)
