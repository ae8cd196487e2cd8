"""Which models can be made into which others, and by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Route:
    """From a kind of model to another.

    ``target`` is ``module:function``, a :data:`serving.conversion.work.Convert`, imported when it
    is used; ``platform`` is what serves the result. ``extra`` brings what it needs beside the
    libraries of the two platforms.
    """

    source: str
    to: str
    platform: str
    target: str
    extra: str = ""


_TENSORFLOW = "serving.conversion.tensorflow_conversions"
_ONNX = "serving.conversion.onnx_conversions"
_XGBOOST = "serving.conversion.xgboost_conversions:save"
ROUTES: Sequence[Route] = (
    Route("graph_def", "saved_model", "tensorflow", f"{_TENSORFLOW}:saved_model"),
    Route("session_bundle", "saved_model", "tensorflow", f"{_TENSORFLOW}:saved_model"),
    Route("saved_model", "tflite", "tflite", f"{_TENSORFLOW}:tflite", "tflite"),
    Route("keras", "saved_model", "tensorflow", "serving.conversion.keras_conversions:saved_model"),
    Route("caffe2", "onnx", "onnx", f"{_ONNX}:caffe2"),
    Route("cntk", "onnx", "onnx", f"{_ONNX}:cntk"),
    Route("mxnet", "onnx", "onnx", f"{_ONNX}:mxnet"),
    Route("sklearn", "onnx", "onnx", "serving.conversion.sklearn_conversions:to_model", "convert"),
    Route("xgboost", "json", "xgboost", _XGBOOST),
    Route("xgboost", "ubj", "xgboost", _XGBOOST),
)
FORMATS = sorted({route.to for route in ROUTES})


def route_for(source: str, to: str) -> Route:
    """Raises InvalidArgument, with all routes, where there is none."""
    for route in ROUTES:
        if (route.source, route.to) == (source, to):
            return route
    there = "; ".join(f"{each} to {', '.join(_targets(each))}" for each in _sources())
    raise InvalidArgument(f"there is no way from {source} to {to}; there are: {there}")


def _sources() -> Sequence[str]:
    return sorted({route.source for route in ROUTES})


def _targets(source: str) -> Sequence[str]:
    return [route.to for route in ROUTES if route.source == source]
