"""To ONNX what is served by ONNX anyway, so that it need not be read from its old files again."""

from __future__ import annotations

from pathlib import Path

from serving.config.options import ServerOptions
from serving.loaders.caffe2_onnx import caffe2_to_onnx
from serving.loaders.cntk_onnx import cntk_to_onnx
from serving.loaders.mxnet_onnx import mxnet_to_onnx
from serving.loaders.onnx_builder import serialized

_FILE = "model.onnx"


def caffe2(source: str, target: Path, _to: str, _options: ServerOptions) -> None:
    """Write ``model.onnx``. Raises what the platform ``caffe2`` raises."""
    (target / _FILE).write_bytes(serialized(caffe2_to_onnx(source)))


def cntk(source: str, target: Path, _to: str, _options: ServerOptions) -> None:
    """Write ``model.onnx``. Raises what the platform ``cntk`` raises."""
    (target / _FILE).write_bytes(serialized(cntk_to_onnx(source)))


def mxnet(source: str, target: Path, _to: str, _options: ServerOptions) -> None:
    """Write ``model.onnx``. Raises what the platform ``mxnet`` raises."""
    (target / _FILE).write_bytes(serialized(mxnet_to_onnx(source)))
