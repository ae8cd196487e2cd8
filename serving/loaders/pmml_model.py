"""A model of PMML as PMML4S runs it: arrays in, arrays out, a batch in a few calls of Java."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jpype
import numpy as np

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.servable import Outputs, TensorInfo
from serving.loaders.input_check import as_text
from serving.loaders.jvm import JavaClasses, java
from serving.loaders.jvm_functions import (
    function,
    method,
    static_method,
    stream,
    then,
    with_argument,
)

_DTYPES = {
    "string": DType.STRING,
    "date": DType.STRING,
    "time": DType.STRING,
    "dateTime": DType.STRING,
    "integer": DType.INT64,
    "boolean": DType.BOOL,
    "float": DType.FLOAT,
}
"""By PMML's names of types; what has any other is a number of 64 bits."""

_MISSING_INTEGER = np.iinfo(np.int64).min
"""PMML4S's own mark for an integer that is missing."""


class PmmlModel:
    """``inputs`` and ``outputs`` of the model, each of the shape (rows,). Thread-safe.

    What is missing is NaN, an empty string or the smallest int64, in both directions.
    """

    def __init__(self, text: str, classes: JavaClasses) -> None:
        """Raises an exception of Java for a document that PMML4S does not read."""
        model = classes["org.pmml4s.model.Model"].fromString(text)
        model.setSupplementOutput(True)
        self.inputs = _tensors(model.inputFields())
        self.outputs = _tensors(model.outputFields())
        self._order = [str(field.name()) for field in model.usedFields()]
        self._predict = _prediction(model, classes)
        self._numbers = _numbers(classes)
        self._getters = {
            name: _getter(classes, info.dtype, place)
            for place, (name, info) in enumerate(self.outputs.items())
            if info.dtype in (DType.STRING, DType.INT64)
        }

    def predict(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
        """The outputs asked for. Raises InvalidArgument for columns of different lengths and for
        strings that are not UTF-8, and exceptions of Java.
        """
        lengths = {len(column) for column in feeds.values()}
        if len(lengths) > 1:
            raise InvalidArgument("the inputs must have the same number of rows")
        if lengths == {0}:
            return [np.empty(0, numpy_dtype(self.outputs[fetch].dtype)) for fetch in fetches]
        answers = stream(self._rows(feeds)).map(self._predict).toArray()
        numbers = self._numbers_of(answers, fetches)
        return [
            self._column(answers, fetch) if fetch in self._getters else numbers[fetch]
            for fetch in fetches
        ]

    def _rows(self, feeds: Mapping[str, np.ndarray]) -> Any:
        """An array of rows, in the order in which PMML4S takes their values."""
        kinds = {info.dtype for info in self.inputs.values()}
        if kinds <= {DType.DOUBLE, DType.FLOAT} and feeds.keys() == set(self._order):
            columns = [feeds[name] for name in self._order]
            return jpype.JArray.of(np.column_stack(columns).astype(np.float64, copy=False))
        (length,) = {len(column) for column in feeds.values()}
        cells = [
            _cells(self.inputs[name], feeds[name]) if name in feeds else [None] * length
            for name in self._order
        ]
        return jpype.JArray(jpype.JObject, 2)(list(zip(*cells, strict=True)))

    def _numbers_of(self, answers: Any, fetches: Sequence[str]) -> Mapping[str, np.ndarray]:
        """All outputs that are numbers, where one of them is asked for."""
        if self._getters.keys() >= set(fetches):
            return {}
        flat = np.asarray(stream(answers).flatMapToDouble(self._numbers).toArray())
        table = flat.reshape(len(answers), len(self.outputs))
        return {
            name: table[:, place].astype(numpy_dtype(info.dtype))
            for place, (name, info) in enumerate(self.outputs.items())
            if name not in self._getters
        }

    def _column(self, answers: Any, name: str) -> np.ndarray:
        if self.outputs[name].dtype is DType.INT64:
            return np.asarray(stream(answers).mapToLong(self._getters[name]).toArray())
        texts = stream(answers).map(self._getters[name]).toArray()
        return np.array([b"" if text is None else str(text).encode() for text in texts], np.object_)


def _tensors(fields: Any) -> Mapping[str, TensorInfo]:
    found = {}
    for field in fields:
        name, dtype = str(field.name()), _DTYPES.get(str(field.dataType()), DType.DOUBLE)
        found[name] = TensorInfo(name, dtype, (None,))
    return found


def _cells(info: TensorInfo, column: np.ndarray) -> Sequence[object]:
    """Values as Java takes them, None for those that are missing."""
    if info.dtype is DType.STRING:
        return [text or None for text in as_text(info.name, column)]
    if info.dtype is DType.INT64:
        return [None if value == _MISSING_INTEGER else value for value in column.tolist()]
    return list(column.tolist())


def _prediction(model: Any, classes: JavaClasses) -> Any:
    """The function from a row to the model's answer for it."""
    series = classes["org.pmml4s.data.Series"]
    row = static_method(series, "fromArray", series.class_, java("java.lang.Object").class_)
    predict = method(classes["org.pmml4s.model.Model"], "predict", series.class_, series.class_)
    return function(then(row, predict.bindTo(model)))


def _numbers(classes: JavaClasses) -> Any:
    """The function from an answer to all its values as doubles: NaN for texts."""
    value, series = classes["org.pmml4s.data.DataVal"], classes["org.pmml4s.data.Series"]
    objects, doubles = java("java.util.stream.Stream"), java("java.util.stream.DoubleStream")
    to_double = function(
        method(value, "toDouble", java("java.lang.Double").TYPE), "ToDoubleFunction"
    )
    to_doubles = method(
        objects,
        "mapToDouble",
        doubles.class_,
        java("java.util.function.ToDoubleFunction").class_,
    )
    values = method(series, "toArray", classes.array_of("org.pmml4s.data.DataVal"))
    of_values = static_method(
        java("java.util.Arrays"), "stream", objects.class_, jpype.JArray(jpype.JObject).class_
    )
    return function(then(then(values, of_values), with_argument(to_doubles, 1, to_double)))


def _getter(classes: JavaClasses, dtype: DType, place: int) -> Any:
    """The function from an answer to its value at a place."""
    series, number = classes["org.pmml4s.data.Series"], java("java.lang.Integer").TYPE
    if dtype is DType.INT64:
        get = method(series, "getLong", java("java.lang.Long").TYPE, number)
        return function(with_argument(get, 1, jpype.JInt(place)), "ToLongFunction")
    get = method(series, "getString", java("java.lang.String").class_, number)
    return function(with_argument(get, 1, jpype.JInt(place)))
