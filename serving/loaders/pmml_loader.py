"""The ``pmml`` platform: PMML documents, run by PMML4S in a Java virtual machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import jpype
import numpy as np

from serving.core.errors import Internal, InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs, Signature
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.jvm import java_classes, java_error
from serving.loaders.jvm_options import JvmOptions
from serving.loaders.model_file import model_file, ram_of_file, read_model
from serving.loaders.pmml_model import PmmlModel
from serving.loaders.pmml_text import pmml_text
from serving.loaders.tabular import check_device

_SUFFIXES = (".pmml",)
_RAM_PER_BYTE_ON_DISK = 5
_LIBRARY = "pypmml"


class PmmlPlatform:
    """Loads a ``.pmml``. Runs on the processor. Thread-safe."""

    def __init__(self, options: JvmOptions | None = None) -> None:
        """Raises ModuleNotFoundError where pypmml, which brings PMML4S, is not installed."""
        self._options = options or JvmOptions()
        self._jars = _jars()

    def estimate(self, path: str) -> ResourceAllocation:
        """Five times the file's size."""
        return ram_of_file(model_file(path, _SUFFIXES), _RAM_PER_BYTE_ON_DISK)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> FunctionServable:
        """The model; its fields are the inputs, and what PMML4S can tell of them the outputs.

        Raises NotFound without a model, FailedPrecondition without Java, InvalidArgument for a
        document that is not whole, declares a document type, or is nothing that PMML4S computes.
        """
        check_device(servable_id, device)
        file = model_file(path, _SUFFIXES)
        text = pmml_text(file.name, read_model(file))
        classes = java_classes(self._jars, self._options)
        try:
            model = PmmlModel(text, classes)
        except jpype.JException as error:
            raise java_error(error, f"{file.name} can not be read by PMML4S") from error
        if not model.inputs or not model.outputs:
            raise InvalidArgument(f"{file.name} has no model that takes fields and predicts")

        def compute(feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
            try:
                return model.predict(feeds, fetches)
            except jpype.JException as error:
                raise java_error(error, "the run failed", Internal) from error

        signature = Signature(model.inputs, model.outputs, method_name="tensorflow/serving/predict")
        return FunctionServable(servable_id, signature, compute)


def _jars() -> tuple[Path, ...]:
    """Those of PMML4S, found without an import of what would run it in its own way."""
    found = find_spec(_LIBRARY)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"no module named {_LIBRARY}", name=_LIBRARY)
    (folder,) = found.submodule_search_locations
    return tuple(sorted(Path(folder, "jars").glob("*.jar")))
