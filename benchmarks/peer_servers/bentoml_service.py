"""Half plus two on BentoML: ``SAVED_MODEL=… bentoml serve bentoml_service:HalfPlusTwo``."""

from __future__ import annotations

import os
from typing import Annotated

import bentoml
import numpy as np
import tensorflow as tf
from bentoml.validators import DType

Floats = Annotated[np.ndarray, DType("float32")]


@bentoml.service(logging={"access": {"enabled": False}})
class HalfPlusTwo:
    def __init__(self) -> None:
        self._model = tf.saved_model.load(os.environ["SAVED_MODEL"])
        self._predict = self._model.signatures["serving_default"]

    @bentoml.api
    def predict(self, instances: Floats) -> Floats:
        return self._predict(x=tf.constant(instances))["y"].numpy()
