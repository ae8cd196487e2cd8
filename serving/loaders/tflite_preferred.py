"""The ``tensorflow`` platform of a server that prefers TensorFlow Lite models to SavedModels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.platform import Platform
from serving.loaders.tflite_options import MODEL_FILE


class TfLitePreferred:
    """Loads a version's ``model.tflite`` where it has one, else what the other platform loads.

    Both platforms are functions, so that only what a version needs has to be installed.
    """

    def __init__(self, lite: Callable[[], Platform], other: Callable[[], Platform]) -> None:
        self._lite = lite
        self._other = other

    def estimate(self, path: str) -> ResourceAllocation:
        """As the platform that would load it."""
        return self._platform(path).estimate(path)

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        """Raises what the platform that loads it raises."""
        return self._platform(path).load(servable_id, path, device)

    def _platform(self, path: str) -> Platform:
        return self._lite() if Path(path, MODEL_FILE).is_file() else self._other()
