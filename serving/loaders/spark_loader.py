"""The ``spark`` platform: logistic regression of Spark MLlib, from its own files, without Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import (
    DEFAULT_SIGNATURE,
    Outputs,
    RunCallback,
    RunOptions,
    Signature,
    TensorInfo,
)
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.model_file import unreadable
from serving.loaders.spark_files import MOST_EXPANSION, read_metadata, read_row
from serving.loaders.spark_logistic import LogisticRegression, check_class, logistic_regression
from serving.loaders.tabular import check_device

LIBSVM_SIGNATURE = "libsvm"
_INDICES, _VALUES = "indices", "values"
_NO_INDEX = -1


class SparkPlatform:
    """Loads a LogisticRegressionModel of ``pyspark.ml``. Runs on the processor. Thread-safe."""

    def estimate(self, path: str) -> ResourceAllocation:
        """Twenty times the size of its files, as equal numbers take next to nothing there."""
        try:
            size = sum(file.stat().st_size for file in Path(path).glob("*/part-*"))
        except OSError as error:
            raise unreadable(error) from error
        return ResourceAllocation.ram(MOST_EXPANSION * size)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> SparkServable:
        """The model; inputs and outputs are called as its columns are.

        Raises NotFound without a model, Unimplemented for one of another class, InvalidArgument
        for files that are not as Spark writes them.
        """
        check_device(servable_id, device)
        metadata = read_metadata(path)
        check_class(metadata)
        return SparkServable(servable_id, logistic_regression(metadata, read_row(path)))


class SparkServable:
    """Answers for vectors of features, and for sparse ones by the signature ``libsvm``; implements
    Servable.
    """

    may_run_long = False

    def __init__(self, servable_id: ServableId, model: LogisticRegression) -> None:
        columns = model.columns
        dense = TensorInfo(columns.features, DType.DOUBLE, (None, model.num_features))
        sparse = {
            _INDICES: TensorInfo(_INDICES, DType.INT64, (None, None)),
            _VALUES: TensorInfo(_VALUES, DType.DOUBLE, (None, None)),
        }
        self._dense = FunctionServable(
            servable_id,
            _signature(model, {dense.name: dense}),
            lambda feeds, fetches: model.answers(model.margins(feeds[dense.name]), fetches),
        )
        self._sparse = FunctionServable(
            servable_id, _signature(model, sparse), partial(_answer_sparse, model)
        )
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: self._dense.signatures[DEFAULT_SIGNATURE],
            LIBSVM_SIGNATURE: self._sparse.signatures[DEFAULT_SIGNATURE],
        }

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Compute while the calling thread waits."""
        is_sparse = feeds.keys() == self.signatures[LIBSVM_SIGNATURE].inputs.keys()
        (self._sparse if is_sparse else self._dense).run(feeds, fetches, options, done)

    def close(self) -> None:
        """Let go of the model."""
        self._dense.close()
        self._sparse.close()


def _signature(model: LogisticRegression, inputs: Mapping[str, TensorInfo]) -> Signature:
    columns, wide = model.columns, (None, model.num_classes)
    shapes: Mapping[str, tuple[int | None, ...]] = {
        columns.prediction: (None,),
        columns.probability: wide,
        columns.raw_prediction: wide,
    }
    outputs = {
        name: TensorInfo(name, DType.DOUBLE, shape) for name, shape in shapes.items() if name
    }
    return Signature(inputs, outputs, method_name="tensorflow/serving/predict")


def _answer_sparse(
    model: LogisticRegression, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
) -> Outputs:
    """Raises InvalidArgument for indices that are no feature's, or not as many as values."""
    indices, values = feeds[_INDICES], feeds[_VALUES]
    if indices.shape != values.shape:
        raise InvalidArgument(f"'{_INDICES}' and '{_VALUES}' must have the same shape")
    there = indices != _NO_INDEX
    wrong = indices[there & ((indices < 0) | (indices >= model.num_features))]
    if wrong.size:
        raise InvalidArgument(
            f"'{_INDICES}' must be from 0 to {model.num_features - 1}, and {_NO_INDEX} for none, "
            f"not {wrong[0]}"
        )
    rows, _ = np.nonzero(there)
    margins = model.sparse_margins(len(indices), rows, indices[there], values[there])
    return model.answers(margins, fetches)
