"""The platforms of a server, each with the options that it was started with."""

from __future__ import annotations

from serving.config.options import ServerOptions
from serving.loaders.platforms import Platforms


def configured_platforms(options: ServerOptions) -> Platforms:
    """Makes none of them: that is when the first model of each is loaded."""
    return Platforms(
        {
            "catboost": options.native,
            "h2o": options.h2o,
            "keras": options.keras,
            "lightgbm": options.native,
            "pmml": options.jvm,
            "python": options.python,
            "sklearn": options.sklearn,
            "tensorflow": options.tensorflow,
            "tflite": options.tflite,
            "xgboost": options.native,
        },
        added=options.added_platforms,
        prefer_tflite=options.tflite.preferred,
    )
