"""Half plus two on Ray Serve: ``python ray_application.py SAVED_MODEL PORT``."""

from __future__ import annotations

import sys
from typing import Any

import ray
import tensorflow as tf
from ray import serve
from starlette.requests import Request


@serve.deployment(logging_config={"enable_access_log": False})
class HalfPlusTwo:
    def __init__(self, path: str) -> None:
        self._model = tf.saved_model.load(path)
        self._predict = self._model.signatures["serving_default"]

    async def __call__(self, request: Request) -> dict[str, Any]:
        x = tf.constant((await request.json())["instances"], tf.float32)
        return {"predictions": self._predict(x=x)["y"].numpy().tolist()}


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(HalfPlusTwo.bind(sys.argv[1]), blocking=True)
