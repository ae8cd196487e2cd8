"""The server that everyone writes first, which the measurements compare with.

    python benchmarks/baseline_server.py NAME=SAVED_MODEL…

grpcio's thread pool, ``tf.saved_model.load``, ``make_ndarray`` and ``make_tensor_proto``. Listens
on a port of the system's choice and prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_NUM_THREADS = 10


class Baseline(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and Classify by the default signatures of loaded models, by name."""

    def __init__(self, signatures: Mapping[str, Any]) -> None:
        self._signatures = signatures

    def Predict(  # noqa: N802 - the stub's name
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.ServicerContext,  # noqa: ARG002 - the stub's parameters
    ) -> predict_pb2.PredictResponse:
        signature = self._signatures[request.model_spec.name]
        inputs = {
            name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()
        }
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for name, tensor in signature(**inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(tensor.numpy()))
        return response

    def Classify(  # noqa: N802 - as above
        self,
        request: classification_pb2.ClassificationRequest,
        context: grpc.ServicerContext,  # noqa: ARG002 - as above
    ) -> classification_pb2.ClassificationResponse:
        signature = self._signatures[request.model_spec.name]
        examples = request.input.example_list.examples
        inputs = tf.constant([example.SerializeToString() for example in examples])
        response = classification_pb2.ClassificationResponse(model_spec=request.model_spec)
        for scores in signature(inputs=inputs)["scores"].numpy():
            classes = response.result.classifications.add().classes
            for score in scores:
                classes.add(score=score)
        return response


def main() -> None:
    models = dict(argument.split("=", 1) for argument in sys.argv[1:])
    # The models are kept as well: a signature does not keep its model's variables alive.
    loaded = {name: tf.saved_model.load(path) for name, path in models.items()}
    signatures = {name: model.signatures["serving_default"] for name, model in loaded.items()}
    server = grpc.server(ThreadPoolExecutor(_NUM_THREADS))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Baseline(signatures), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
