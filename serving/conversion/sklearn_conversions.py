"""To ONNX what scikit-learn wrote, so that it outlives the version of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

from serving.config.options import ServerOptions
from serving.core.errors import InvalidArgument, Unimplemented
from serving.loaders.sklearn_loader import SklearnPlatform

_OPSETS = {"": 18, "ai.onnx.ml": 3}
_INPUT = "x"
_NAMES: Mapping[str, str] = {
    "label": "predict",
    "output_label": "predict",
    "variable": "predict",
    "probabilities": "predict_proba",
    "output_probability": "predict_proba",
}
"""What skl2onnx calls outputs, and what they are called as the estimator is served."""


def to_model(source: str, target: Path, _to: str, options: ServerOptions) -> None:
    """Write ``model.onnx`` with the input ``x`` and the outputs ``predict`` and ``predict_proba``,
    of the types and shapes that the estimator has them in.

    Raises what the platform ``sklearn`` raises, Unimplemented for an estimator that was trained
    with a data frame, InvalidArgument for one that skl2onnx has no conversion of.
    """
    estimator = SklearnPlatform(options.sklearn).estimator(source)
    if hasattr(estimator, "feature_names_in_") or not hasattr(estimator, "n_features_in_"):
        raise Unimplemented("only estimators that were trained with arrays can be converted")
    model = _converted(estimator, DoubleTensorType)
    if not _is_runnable(model):  # onnxruntime has trees of floats only
        model = _converted(estimator, FloatTensorType)
    _finish(model, rank=np.ndim(estimator.predict(np.zeros((2, estimator.n_features_in_)))))
    onnx.save(model, str(target / "model.onnx"))


def _converted(estimator: Any, kind: Any) -> onnx.ModelProto:
    # Probabilities as a tensor, and not as a map from each class.
    maps = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    try:
        model: onnx.ModelProto = to_onnx(
            estimator,
            initial_types=[(_INPUT, kind([None, estimator.n_features_in_]))],
            target_opset=_OPSETS,
            options=maps,
        )
    except (MissingConverter, MissingShapeCalculator, NotImplementedError, RuntimeError) as error:
        text = str(error).strip().partition("\n")[0]
        raise InvalidArgument(f"skl2onnx can not convert the estimator: {text}") from error
    return model


def _is_runnable(model: onnx.ModelProto) -> bool:
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  # its errors have no common class
        return False
    return True


def _finish(model: onnx.ModelProto, rank: int) -> None:
    """Have input and outputs as clients of the estimator know them; ``rank`` is that of
    ``predict``.
    """
    graph = model.graph
    inner = f"{_INPUT}_as_computed"
    for node in graph.node:
        node.input[:] = [inner if name == _INPUT else name for name in node.input]
    element = graph.input[0].type.tensor_type
    graph.node.insert(0, helper.make_node("Cast", [_INPUT], [inner], to=element.elem_type))
    element.elem_type = TensorProto.DOUBLE
    for output in graph.output:
        tensor, computed = output.type.tensor_type, output.name
        output.name = _NAMES.get(computed, computed)
        if output.name == "predict" and rank == 1:
            graph.initializer.append(
                helper.make_tensor("of_one_rank", TensorProto.INT64, [1], [-1])
            )
            flat = f"{computed}_flat"
            graph.node.append(helper.make_node("Reshape", [computed, "of_one_rank"], [flat]))
            computed = flat
            del tensor.shape.dim[1:]
        if tensor.elem_type == TensorProto.FLOAT:
            tensor.elem_type = TensorProto.DOUBLE
        cast = helper.make_node("Cast", [computed], [output.name], to=tensor.elem_type)
        graph.node.append(cast)
