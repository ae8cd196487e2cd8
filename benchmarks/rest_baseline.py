"""The REST server that everyone writes first: FastAPI on uvicorn, ``tf.saved_model.load``, lists.

    python benchmarks/rest_baseline.py NAME=SAVED_MODEL…

Listens on a port of the system's choice, which uvicorn prints. Access logs are off.
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

paths = dict(argument.split("=", 1) for argument in sys.argv[1:])
models = {name: tf.saved_model.load(path) for name, path in paths.items()}
app = FastAPI()


class Request(BaseModel):
    instances: list


@app.post("/v1/models/{name}:predict")
def predict(name: str, request: Request) -> dict[str, list]:
    signature = models[name].signatures["serving_default"]
    x = tf.constant(np.array(request.instances, dtype=np.float32))
    return {"predictions": signature(x=x)["y"].numpy().tolist()}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=0, access_log=False)
