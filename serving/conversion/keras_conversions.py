"""To SavedModels what Keras saves."""

from __future__ import annotations

from pathlib import Path

from serving.config.options import ServerOptions
from serving.loaders.keras_loader import KerasPlatform


def saved_model(source: str, target: Path, _to: str, options: ServerOptions) -> None:
    """Write the SavedModel that Keras exports. Raises what the platform ``keras`` raises."""
    KerasPlatform(options.keras).export(source, str(target))
