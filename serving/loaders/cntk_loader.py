"""The ``cntk`` platform: models of CNTK 2, converted to ONNX as they load, run by onnxruntime."""

from __future__ import annotations

from serving.loaders.cntk_files import cntk_file
from serving.loaders.cntk_onnx import cntk_to_onnx
from serving.loaders.onnx_converted_platform import ConvertedPlatform


class CntkPlatform(ConvertedPlatform):
    """Loads the one file of a version directory. Thread-safe."""

    def __init__(self) -> None:
        super().__init__(lambda path: [cntk_file(path)], cntk_to_onnx)
