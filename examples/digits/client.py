"""Asks a model server about held-out digits and says how often its answer is wrong.

    python examples/digits/client.py --server=HOST:PORT [--num_tests=N] [--concurrency=N]

Speaks with the stubs of tensorflow-serving-api: one Predict for each image, up to ``concurrency``
of them in flight. Prints a dot for each answer; ends with status 1 if a call failed.
"""

from __future__ import annotations

import argparse
import sys
import threading

import grpc
import numpy as np
import tensorflow as tf
from digits_input_data import Digits, read_digits
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

_DEADLINE_SECONDS = 5.0


class Tally:
    """Counts answers, and lets at most ``concurrency`` calls be in flight. Thread-safe."""

    def __init__(self, concurrency: int) -> None:
        self._changed = threading.Condition()
        self._free = concurrency
        self._concurrency = concurrency
        self.answers = 0
        self.errors = 0
        self.failures = 0

    def begin(self) -> None:
        """Wait until another call may start."""
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0)
            self._free -= 1

    def end(self, call: grpc.Future, label: int) -> None:
        """Count what became of a call about a scan of ``label``."""
        failure = call.exception()
        with self._changed:
            if failure is None:
                self.answers += 1
                self.errors += int(np.argmax(call.result().outputs["scores"].float_val)) != label
                print(".", end="", flush=True)
            else:
                self.failures += 1
                print(f"\n{failure.code().name}: {failure.details()}", file=sys.stderr)
            self._free += 1
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until no call is in flight."""
        with self._changed:
            self._changed.wait_for(lambda: self._free == self._concurrency)


def ask(server: str, digits: Digits, concurrency: int) -> Tally:
    """Send every image in a request of its own; returns when all are answered."""
    tally = Tally(concurrency)
    with grpc.insecure_channel(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for image, label in zip(digits.images, digits.labels, strict=True):
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "digits"
            request.model_spec.signature_name = "predict_images"
            request.inputs["images"].CopyFrom(tf.make_tensor_proto(image[np.newaxis]))
            tally.begin()
            call = stub.Predict.future(request, _DEADLINE_SECONDS)
            call.add_done_callback(lambda done, label=int(label): tally.end(done, label))
        tally.wait()
    return tally


def main() -> int:
    _, held_out = read_digits()
    most = len(held_out.labels)
    parser = argparse.ArgumentParser(description="Measure a served digits model's error rate.")
    parser.add_argument("--server", required=True, help="host:port of the gRPC service")
    parser.add_argument("--num_tests", type=int, default=most, help=f"images to send, 1 to {most}")
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight at once")
    arguments = parser.parse_args()
    if not 1 <= arguments.num_tests <= most:
        parser.error(f"--num_tests must be 1 to {most}, not {arguments.num_tests}")
    if arguments.concurrency < 1:
        parser.error(f"--concurrency must be at least 1, not {arguments.concurrency}")

    count = arguments.num_tests
    digits = Digits(held_out.images[:count], held_out.labels[:count])
    tally = ask(arguments.server, digits, arguments.concurrency)
    print()
    if tally.answers:
        print(f"Inference error rate: {tally.errors / tally.answers:.2%}")
    if tally.failures:
        print(f"{tally.failures} of {count} calls failed", file=sys.stderr)
    return int(tally.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
