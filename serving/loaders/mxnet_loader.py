"""The ``mxnet`` platform: models of MXNet, converted to ONNX as they load, run by onnxruntime."""

from __future__ import annotations

from serving.loaders.mxnet_files import mxnet_files
from serving.loaders.mxnet_onnx import mxnet_to_onnx
from serving.loaders.onnx_converted_platform import ConvertedPlatform


class MXNetPlatform(ConvertedPlatform):
    """Loads the symbol and the parameters of a version directory. Thread-safe."""

    def __init__(self) -> None:
        super().__init__(lambda path: [mxnet_files(path).params], mxnet_to_onnx)
