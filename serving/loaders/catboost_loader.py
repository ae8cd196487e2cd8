"""The ``catboost`` platform: models of CatBoost, in its own binary format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import catboost
import numpy as np

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.input_check import as_text
from serving.loaders.model_file import model_file, ram_of_file, read_model
from serving.loaders.native_options import NativeOptions
from serving.loaders.native_probe import NativeProbe
from serving.loaders.signature_file import DeclaredSignature, read_signature_file
from serving.loaders.tabular import (
    PREDICT,
    check_device,
    column_inputs,
    matrix_input,
    tabular_servable,
)

_SUFFIXES = (".cbm",)
_RAM_PER_BYTE_ON_DISK = 3
_MARK = b"CBM1"
_ORIGIN = re.compile(r"^\S+:\d+: ")  # where in CatBoost's own program an error was found
_CLASSIFIER_OUTPUTS = (PREDICT, "predict_proba", "predict_log_proba")


class CatBoostPlatform:
    """Loads a ``.cbm``. Runs on the processor. Thread-safe."""

    def __init__(self, options: NativeOptions | None = None) -> None:
        self._probe = NativeProbe("catboost", options)

    def estimate(self, path: str) -> ResourceAllocation:
        """Three times the file's size."""
        return ram_of_file(model_file(path, _SUFFIXES), _RAM_PER_BYTE_ON_DISK)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> FunctionServable:
        """The model, as the CatBoostClassifier or CatBoostRegressor that wrote it would answer.

        Features are ``x`` of floats, or, where some are categories or texts, an input for each, of
        strings for those. Raises NotFound without a model, InvalidArgument for one that CatBoost
        does not read.
        """
        check_device(servable_id, device)
        file = model_file(path, _SUFFIXES)
        if not read_model(file).startswith(_MARK):
            raise InvalidArgument(f"{file.name} is no model in CatBoost's binary format")
        self._probe.check(path, file)
        model = _model(file)
        declared = read_signature_file(path)
        inputs = _inputs(model, _feature_names(model, file), declared)
        is_classifier = isinstance(model, catboost.CatBoostClassifier)
        outputs = _CLASSIFIER_OUTPUTS if is_classifier else (PREDICT,)

        def compute(feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
            rows = _rows(inputs, feeds)
            return [_in_rows(getattr(model, fetch)(rows)) for fetch in fetches]

        refusals = (ValueError, catboost.CatBoostError)
        return tabular_servable(
            servable_id, inputs, outputs, compute, declared=declared, refusals=refusals
        )


def _model(file: Path) -> Any:
    """From the file and not from memory, where CatBoost reads on behind the end of a model."""
    try:
        loss = _loaded(catboost.CatBoost(), file).get_all_params().get("loss_function", "")
        if catboost.core.is_classification_objective(loss):
            return _loaded(catboost.CatBoostClassifier(), file)
        if catboost.core.is_regression_objective(loss):
            return _loaded(catboost.CatBoostRegressor(), file)
        return _loaded(catboost.CatBoost(), file)
    except (catboost.CatBoostError, ValueError) as error:
        reason = _ORIGIN.sub("", str(error).strip()).replace(str(file), file.name)
        raise InvalidArgument(f"{file.name} is no whole model of CatBoost: {reason}") from error


def _loaded(model: Any, file: Path) -> Any:
    model.load_model(str(file), format="cbm")
    return model


def _feature_names(model: Any, file: Path) -> Sequence[str]:
    try:
        return list(model.feature_names_)
    except ValueError as error:
        raise InvalidArgument(
            f"{file.name} is no whole model of CatBoost: a feature has a name that is no UTF-8"
        ) from error


def _inputs(
    model: Any, names: Sequence[str], declared: DeclaredSignature
) -> Mapping[str, TensorInfo]:
    categories, texts = model.get_cat_feature_indices(), model.get_text_feature_indices()
    if not categories and not texts:
        info = matrix_input(declared, len(names), DType.FLOAT)
        return {info.name: info}
    if declared.inputs is None:
        words = {*categories, *texts}
        types = [DType.STRING if index in words else DType.FLOAT for index in range(len(names))]
        return {
            name: TensorInfo(name, dtype, (None,)) for name, dtype in zip(names, types, strict=True)
        }
    if list(declared.inputs) != names:
        raise InvalidArgument(
            f"signature.json: inputs must be the model's features, {', '.join(names)}"
        )
    for index, (name, info) in enumerate(declared.inputs.items()):
        kinds = "O" if index in texts else "Oiu" if index in categories else "fiub"
        if numpy_dtype(info.dtype).kind not in kinds:
            raise InvalidArgument(
                f"signature.json: inputs.{name}.dtype can not be {info.dtype.label}: texts are "
                "strings, categories strings or integers, and other features numbers"
            )
    return column_inputs(declared.inputs)


def _rows(inputs: Mapping[str, TensorInfo], feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """As CatBoost takes them: a matrix, or columns of objects side by side."""
    columns = [
        as_text(name, feeds[name]) if info.dtype is DType.STRING else feeds[name]
        for name, info in inputs.items()
    ]
    if len(columns) == 1 and columns[0].ndim == 2:
        return columns[0]
    return np.column_stack([column.reshape(-1).astype(np.object_) for column in columns])


def _in_rows(answer: Any) -> np.ndarray:
    """Classes of several come as a column, which is no more than one for each row."""
    array = np.asarray(answer)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
