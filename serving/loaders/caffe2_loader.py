"""The ``caffe2`` platform: nets of Caffe2, converted to ONNX as they load, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.caffe2_files import net_files
from serving.loaders.caffe2_onnx import caffe2_to_onnx
from serving.loaders.device import Device
from serving.loaders.model_file import ram_of_file
from serving.loaders.onnx_builder import serialized
from serving.loaders.onnx_loader import RAM_PER_BYTE_ON_DISK, OnnxPlatform


class Caffe2Platform:
    """Loads ``init_net.pb`` and ``predict_net.pb`` of a version directory. Thread-safe."""

    def __init__(self) -> None:
        self._onnx = OnnxPlatform()

    @property
    def devices(self) -> Sequence[Device]:
        """Onnxruntime's."""
        return self._onnx.devices

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory as of an ONNX model of their size. Raises as :func:`net_files` does."""
        nets = [ram_of_file(file, RAM_PER_BYTE_ON_DISK) for file in net_files(path)]
        return sum(nets, ResourceAllocation())

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """Raises what :func:`caffe2_to_onnx` and :meth:`OnnxPlatform.load_model` raise."""
        return self._onnx.load_model(servable_id, serialized(caffe2_to_onnx(path)), path, device)
