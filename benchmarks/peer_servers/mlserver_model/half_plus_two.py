"""Half plus two as a custom runtime of MLServer: ``SAVED_MODEL=… mlserver start`` this folder."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import decode_args


class HalfPlusTwo(MLModel):
    async def load(self) -> bool:
        self._model = tf.saved_model.load(os.environ["SAVED_MODEL"])
        self._predict = self._model.signatures["serving_default"]
        return True

    @decode_args
    async def predict(self, x: np.ndarray) -> np.ndarray:
        return self._predict(x=tf.constant(x))["y"].numpy()
