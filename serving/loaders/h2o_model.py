"""A MOJO as H2O's own library computes it: arrays in, arrays out, few calls of Java for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jpype
import numpy as np

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import InvalidArgument, Unimplemented
from serving.core.servable import Outputs, TensorInfo
from serving.loaders.input_check import as_text
from serving.loaders.jvm import JavaClasses, java
from serving.loaders.jvm_functions import (
    array_of_doubles,
    changing,
    function,
    made_anew,
    method,
    static_method,
    stream,
)

_CATEGORIES = {
    "Binomial",
    "Multinomial",
    "Ordinal",
    "Regression",
    "Clustering",
    "AnomalyDetection",
    "AutoEncoder",
    "DimReduction",
}
_CLUSTER = "cluster"
_PREDICT = "predict"
_CALIBRATED = "cal_"


class MojoModel:
    """``inputs`` are the columns it was trained on, ``outputs`` those of H2O's frames of
    predictions, each of the shape (rows,). Thread-safe.

    Categories are strings; one that was not there in training is missing, as in H2O. What is
    missing is NaN or the empty string.
    """

    def __init__(self, path: str, classes: JavaClasses) -> None:
        """Raises an exception of Java for what is no MOJO, Unimplemented for one of another kind of
        answers, or with another kind of features, than a row of numbers.
        """
        self._classes = classes
        self._model = model = classes["hex.genmodel.MojoModel"].load(path)
        self._category = str(model.getModelCategory())
        _check_kind(model, self._category)
        self._names = [str(name) for name in model.getNames()][: int(model.nfeatures())]
        self._offset = str(model.getOffsetName() or "")
        self._levels = {
            name: _codes(name, levels)
            for name, levels in zip(self._names, model.getDomainValues(), strict=False)
            if levels is not None
        }
        self._num_values = int(model.getPredsSize(model.getModelCategory()))
        self._answers = [str(name) for name in model.getOutputNames()]
        self._texts = {
            name: np.array([str(level).encode() for level in levels], np.object_)
            for name, levels in zip(self._answers, model.getOutputDomains(), strict=False)
            if levels is not None
        }
        self._is_calibrated = bool(model.calibrateClassProbabilities(self._doubles()))
        self.inputs = self._inputs()
        self.outputs = self._outputs()
        self._score = function(self._scoring())
        self._calibrate = function(self._calibration())
        self._values = function(_values_of_a_row())

    def predict(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
        """The outputs asked for. Raises InvalidArgument for columns of different lengths and for
        strings that are not UTF-8, and exceptions of Java.
        """
        lengths = {len(column) for column in feeds.values()}
        if len(lengths) > 1:
            raise InvalidArgument("the inputs must have the same number of rows")
        if lengths == {0}:
            return [np.empty(0, numpy_dtype(self.outputs[fetch].dtype)) for fetch in fetches]
        rows = np.column_stack([self._numbers(name, feeds[name]) for name in self._names])
        scored = self._scored(rows, feeds)
        found = self._by_name(self._table(scored))
        if any(fetch not in found for fetch in fetches):
            table = self._table(stream(scored).map(self._calibrate).toArray())
            found |= {
                f"{_CALIBRATED}{name}": table[:, place]
                for place, name in enumerate(self._answers)
                if place > 0
            }
        return [found[fetch] for fetch in fetches]

    def _scored(self, rows: np.ndarray, feeds: Mapping[str, np.ndarray]) -> Any:
        """Java's array of an array of numbers for each row."""
        if not self._offset:
            return stream(jpype.JArray.of(rows)).map(self._score).toArray()
        offsets = feeds[self._offset].tolist()
        scored = [
            self._model.score0(jpype.JArray.of(row), offset, self._doubles())
            for row, offset in zip(rows, offsets, strict=True)
        ]
        return jpype.JArray(jpype.JObject)(scored)

    def _table(self, scored: Any) -> np.ndarray:
        flat = np.asarray(stream(scored).flatMapToDouble(self._values).toArray())
        return flat.reshape(len(scored), -1)

    def _by_name(self, table: np.ndarray) -> dict[str, np.ndarray]:
        found = {}
        for place, name in enumerate(self._answers):
            values = table[:, place]
            if name in self._texts:
                found[name] = self._texts[name][values.astype(np.intp)]
            elif name == _CLUSTER:
                found[_PREDICT] = values.astype(np.int64)
            else:
                found[name] = values
        return found

    def _numbers(self, name: str, column: np.ndarray) -> np.ndarray:
        if name not in self._levels:
            return column
        codes = self._levels[name]
        texts = as_text(name, column)
        return np.array([codes.get(text, np.nan) for text in texts], np.float64)

    def _inputs(self) -> Mapping[str, TensorInfo]:
        names = [*self._names, self._offset] if self._offset else self._names
        types = {name: DType.STRING if name in self._levels else DType.DOUBLE for name in names}
        return {name: TensorInfo(name, dtype, (None,)) for name, dtype in types.items()}

    def _outputs(self) -> Mapping[str, TensorInfo]:
        types = {
            name: DType.STRING if name in self._texts else DType.DOUBLE for name in self._answers
        }
        if self._category == "Clustering":
            types = {_PREDICT: DType.INT64}
        if self._is_calibrated:
            types |= {f"{_CALIBRATED}{name}": DType.DOUBLE for name in self._answers[1:]}
        return {name: TensorInfo(name, dtype, (None,)) for name, dtype in types.items()}

    def _doubles(self) -> Any:
        return jpype.JArray(jpype.JDouble)(self._num_values)

    def _scoring(self) -> Any:
        """From a row to its numbers, for which each call gets new memory."""
        doubles = jpype.JArray(jpype.JDouble).class_
        score = method(self._classes["hex.genmodel.GenModel"], "score0", doubles, doubles, doubles)
        return made_anew(score.bindTo(self._model), 1, array_of_doubles(self._num_values))

    def _calibration(self) -> Any:
        """From the numbers of a row to the same memory with calibrated ones."""
        model, doubles = self._classes["hex.genmodel.GenModel"], jpype.JArray(jpype.JDouble).class_
        calibrate = method(
            model, "calibrateClassProbabilities", java("java.lang.Boolean").TYPE, doubles
        )
        return changing(calibrate.bindTo(self._model))


def _check_kind(model: Any, category: str) -> None:
    if category not in _CATEGORIES:
        raise Unimplemented(f"a model of H2O of the category {category} is not served")
    encoding = str(model.getCategoricalEncoding())
    if encoding != "AUTO":
        raise Unimplemented(
            f"a model of H2O with the categorical encoding {encoding} is not served"
        )


def _codes(column: str, levels: Any) -> Mapping[str, int]:
    """The number of each category; H2O lets a category also do without its column's name."""
    codes = {str(level): code for code, level in enumerate(levels)}
    short = {level.removeprefix(f"{column}."): code for level, code in codes.items()}
    return short | codes


def _values_of_a_row() -> Any:
    """From an array of numbers to their stream."""
    doubles, numbers = java("java.util.stream.DoubleStream"), jpype.JArray(jpype.JDouble)
    return static_method(java("java.util.Arrays"), "stream", doubles.class_, numbers.class_)
