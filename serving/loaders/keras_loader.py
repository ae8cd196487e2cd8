"""The ``keras`` platform: models as Keras itself saves them, run by TensorFlow's session."""

from __future__ import annotations

import gc
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

# Before keras, which it imports as well: threads that load models of both at the same time would
# each hold what the other waits for.
import tensorflow  # noqa: F401  # isort: skip
import keras

from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.archive_size import check_archive
from serving.loaders.device import Device
from serving.loaders.keras_options import KerasOptions
from serving.loaders.model_file import model_file, ram_of_file
from serving.loaders.tensorflow_loader import TensorFlowPlatform

_ZIPPED = ".keras"
_SUFFIXES = (_ZIPPED, ".h5", ".hdf5")
_RAM_PER_BYTE_ON_DISK = 2.0
_BACKEND = "tensorflow"


class KerasPlatform:
    """Loads the one ``.keras``, ``.h5`` or ``.hdf5`` file of a version directory. Thread-safe.

    The model is exported as a SavedModel, which is then loaded as any other, with the signatures
    that Keras gives it. Raises FailedPrecondition where Keras computes with something else than
    TensorFlow, InvalidArgument for options that TensorFlow refuses.
    """

    def __init__(self, options: KerasOptions | None = None) -> None:
        options = options or KerasOptions()
        if keras.backend.backend() != _BACKEND:
            raise FailedPrecondition(
                f"Keras computes with {keras.backend.backend()}; KERAS_BACKEND has to be {_BACKEND}"
            )
        self._tensorflow = TensorFlowPlatform(options.tensorflow)
        self._safe = not options.allow_code
        self._lock = threading.Lock()  # Keras names layers from counters that all models share

    @property
    def devices(self) -> Sequence[Device]:
        """TensorFlow's."""
        return self._tensorflow.devices

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory the model is expected to need: twice its file.

        Raises NotFound without exactly one, InvalidArgument for files that can not be looked at.
        """
        return ram_of_file(model_file(path, _SUFFIXES), _RAM_PER_BYTE_ON_DISK)

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """The model, ready to run.

        Raises NotFound without exactly one file, InvalidArgument for one that Keras does not take
        or that expands suspiciously, FailedPrecondition for a model with code that is not allowed,
        and what the ``tensorflow`` platform raises.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.export(path, folder)
            return self._tensorflow.load(servable_id, folder, device)

    def export(self, path: str, folder: str) -> None:
        """Write the version's model as a SavedModel. Raises as :meth:`load` does for the file."""
        file = model_file(path, _SUFFIXES)
        if file.suffix == _ZIPPED:
            check_archive(file, "Keras model")
        refusal = self._refusal(file, folder)
        gc.collect()  # Keras models refer to themselves, and hold the weights
        if refusal is not None:
            raise refusal

    def _refusal(self, file: Path, folder: str) -> ServingError | None:
        """Why the model was not exported; returned, as a raised error's frames hold the model."""
        try:
            with self._lock:
                model = keras.saving.load_model(file, compile=False, safe_mode=self._safe)
                model.export(folder, format="tf_saved_model", verbose=False)
        except Exception as error:  # noqa: BLE001 - Keras raises anything, by what layers make
            text = str(error)
            if self._safe and "safe_mode" in text:
                return FailedPrecondition(
                    f"{file.name} has Python code in it, as Lambda layers do, which is not run: "
                    "--allow_keras_code would run it, with all that the server may do"
                )
            text = text.replace(f"{file.parent}/", "")
            return InvalidArgument(f"the Keras model can not be loaded: {text}")
        return None
