"""The inputs of an estimator, and how they become what it predicts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import TensorInfo
from serving.loaders.input_check import as_text
from serving.loaders.signature_file import DeclaredSignature
from serving.loaders.tabular import column_inputs


class Features:
    """``inputs`` are what ``signature.json`` declares; else an input of doubles for each feature
    that the estimator has a name of, else one matrix ``x`` of them. Immutable.
    """

    def __init__(self, estimator: Any, declared: DeclaredSignature) -> None:
        """Raises InvalidArgument where nothing says how many features there are, or the declared
        inputs are not the estimator's.
        """
        self._names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        self.inputs: Mapping[str, TensorInfo] = declared.inputs or self._found(estimator)
        self._is_one = len(self.inputs) == 1 and list(self.inputs) != self._names
        if self._names and not self._is_one and set(self.inputs) != set(self._names):
            raise InvalidArgument(
                "signature.json: inputs must be the model's features, "
                f"{', '.join(self._names)}, or one matrix of them"
            )
        if self._is_one:
            self._check_matrix(estimator)
        else:
            self.inputs = column_inputs(self.inputs)
        if self._names:
            # Needed here alone, and not by every model.
            import pandas  # noqa: PLC0415  # see above

            self._frame = pandas.DataFrame

    def arranged(self, feeds: Mapping[str, np.ndarray]) -> Any:
        """What the estimator takes: a data frame where its features have names, else an array.

        Raises InvalidArgument for strings that are not UTF-8, ValueError for columns of which one
        is longer than another.
        """
        columns = {
            name: as_text(name, feeds[name]) if info.dtype is DType.STRING else feeds[name]
            for name, info in self.inputs.items()
        }
        if self._is_one:
            (array,) = columns.values()
            return self._frame(array, columns=self._names) if self._names else array
        flat = {name: column.reshape(-1) for name, column in columns.items()}
        if self._names:
            return self._frame({name: flat[name] for name in self._names})
        return np.column_stack(list(flat.values()))

    def _check_matrix(self, estimator: Any) -> None:
        (info,) = self.inputs.values()
        count = getattr(estimator, "n_features_in_", None)
        is_matrix = info.shape is not None and len(info.shape) == 2
        if count is not None and is_matrix and info.shape != (None, count):
            raise InvalidArgument(
                f"signature.json: inputs.{info.name}.shape must be [null, {count}], as the model "
                f"has {count} features"
            )

    def _found(self, estimator: Any) -> Mapping[str, TensorInfo]:
        if self._names:
            return {name: TensorInfo(name, DType.DOUBLE, (None,)) for name in self._names}
        count = getattr(estimator, "n_features_in_", None)
        if count is None:
            raise InvalidArgument(
                "the model does not say how many features it takes; signature.json has to"
            )
        return {"x": TensorInfo("x", DType.DOUBLE, (None, int(count)))}
