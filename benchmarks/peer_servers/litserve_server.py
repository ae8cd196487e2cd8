"""Half plus two on LitServe: ``python litserve_server.py SAVED_MODEL PORT``."""

from __future__ import annotations

import sys
from typing import Any

import litserve
import tensorflow as tf


class HalfPlusTwo(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - the interface of LitAPI
        self._model = tf.saved_model.load(sys.argv[1])
        self._predict = self._model.signatures["serving_default"]

    def decode_request(self, request):  # unannotated: LitServe would take it for a query
        return tf.constant(request["instances"], tf.float32)

    def predict(self, x: tf.Tensor) -> tf.Tensor:
        return self._predict(x=x)["y"]

    def encode_response(self, output: tf.Tensor) -> dict[str, Any]:
        return {"predictions": output.numpy().tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(HalfPlusTwo(), accelerator="cpu")
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False
    )
