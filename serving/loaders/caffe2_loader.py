"""The ``caffe2`` platform: nets of Caffe2, converted to ONNX as they load, run by onnxruntime."""

from __future__ import annotations

from serving.loaders.caffe2_files import net_files
from serving.loaders.caffe2_onnx import caffe2_to_onnx
from serving.loaders.onnx_converted_platform import ConvertedPlatform


class Caffe2Platform(ConvertedPlatform):
    """Loads ``init_net.pb`` and ``predict_net.pb`` of a version directory. Thread-safe."""

    def __init__(self) -> None:
        super().__init__(net_files, caffe2_to_onnx)
