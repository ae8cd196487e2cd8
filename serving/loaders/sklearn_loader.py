"""The ``sklearn`` platform: scikit-learn's estimators, run by scikit-learn."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import joblib
import sklearn  # noqa: F401  # so that its absence, not its types', is what is told
import skops.io

from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId
from serving.loaders.archive_size import check_archive
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.model_file import model_file, ram_of_file, read_model
from serving.loaders.signature_file import read_signature_file
from serving.loaders.sklearn_features import Features
from serving.loaders.sklearn_file_readers import check_reads_no_files
from serving.loaders.sklearn_options import SklearnOptions
from serving.loaders.sklearn_outputs import computing, outputs_of
from serving.loaders.tabular import check_device, tabular_servable

log = logging.getLogger(__name__)

_SKOPS = ".skops"
_SUFFIXES = (_SKOPS, ".joblib", ".pkl", ".pickle")
_RAM_PER_BYTE_ON_DISK = 4  # the files may be compressed


class SklearnPlatform:
    """Loads a ``.skops``, and pickles where that is allowed. Thread-safe."""

    def __init__(self, options: SklearnOptions | None = None) -> None:
        self._options = options or SklearnOptions()

    def estimate(self, path: str) -> ResourceAllocation:
        """Four times the file's size."""
        return ram_of_file(model_file(path, _SUFFIXES), _RAM_PER_BYTE_ON_DISK)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> FunctionServable:
        """The estimator, with those of predict, predict_proba and predict_log_proba that it has.

        Raises NotFound without a model, FailedPrecondition for a pickle that is not allowed,
        InvalidArgument for types that are not trusted, for those that would read files that
        clients name, and for files that can not be read.
        """
        check_device(servable_id, device)
        estimator = self.estimator(path)
        declared = read_signature_file(path)
        features = Features(estimator, declared)
        compute = computing(estimator, features)
        return tabular_servable(
            servable_id,
            features.inputs,
            outputs_of(estimator),
            compute,
            declared=declared,
            refusals=(ValueError, TypeError),
        )

    def estimator(self, path: str) -> Any:
        """What the version holds. Raises as :meth:`load` does."""
        estimator = self._read(model_file(path, _SUFFIXES))
        check_reads_no_files(estimator)
        return estimator

    def _read(self, file: Path) -> Any:
        if file.suffix != _SKOPS and not self._options.allow_pickle:
            raise FailedPrecondition(
                f"{file.name} is a pickle, which may run any code as it is read; a .skops or .onnx "
                "file does not, and --allow_pickle_models allows pickles"
            )
        content = read_model(file)
        try:
            if file.suffix == _SKOPS:
                check_archive(file, "scikit-learn model in a .skops file")
                return self._trusted(file.name, content)
            return joblib.load(file)
        except ServingError:
            raise
        except Exception as error:  # whatever the damage, or the code in a pickle, brings about
            log.exception("a scikit-learn model can not be read")
            raise InvalidArgument(
                f"{file.name} can not be read as a scikit-learn model "
                f"({type(error).__name__}, which the log shows)"
            ) from error

    def _trusted(self, name: str, content: bytes) -> Any:
        """Nothing of the file is made before all types in it are known to run no code."""
        trusted = self._options.trusted_types
        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(trusted))
        if unknown:
            raise InvalidArgument(
                f"{name} has types that are not trusted: {', '.join(unknown)}; "
                "--trusted_skops_types trusts those that it names"
            )
        return skops.io.loads(content, trusted=trusted)
