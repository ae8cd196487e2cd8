"""A server of its own for one exported classifier of digits, in front of batches.

    python examples/mnist_basic/mnist_inference.py [--port=9000] EXPORT_DIR/00000001

Serves tensorflow.serving.MnistService (protos/mnist_inference.proto), unencrypted, until it gets
SIGTERM or an interrupt; then it answers what has begun. The version may be a SessionBundle or a
SavedModel: what is needed of it is a signature for classification that takes images.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import numpy as np
from mnist_input_data import CLASSES, PIXELS

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.clock import SystemClock
from serving.core.errors import FailedPrecondition, Internal, InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, RunOptions, Servable, run_and_wait
from serving.core.servable_id import ServableId
from serving.generated.mnist_inference_pb2 import MnistRequest, MnistResponse
from serving.loaders.platforms import Platforms
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.transport.status import grpc_status

SERVICE = "tensorflow.serving.MnistService"
_CLASSIFY_METHOD = "tensorflow/serving/classify"
_BATCH_THREADS = "mnist_service_batch_threads"
_MAX_ENQUEUED_BATCHES = 1000
_CALLS_AT_ONCE = 64  # each has a thread, which waits for its batch
_GRACE_SECONDS = 10


class MnistService:
    """Answers Classify. Thread-safe; calls wait for the batch they are in, or for their deadline.

    Raises FailedPrecondition for a servable without a signature for classification, or where that
    gives classes only.
    """

    def __init__(self, servable: Servable) -> None:
        signature = servable.signatures.get(DEFAULT_SIGNATURE)
        if signature is None or signature.method_name != _CLASSIFY_METHOD:
            raise FailedPrecondition("the export has no signature for classification")
        if "scores" not in signature.outputs:
            raise FailedPrecondition("the export's signature for classification has no scores")
        self._servable = servable
        self._images = signature.inputs["inputs"].name
        self._scores = signature.outputs["scores"].name

    def classify(self, request: MnistRequest, context: grpc.ServicerContext) -> MnistResponse:
        """The probability of each digit in the one image."""
        seconds = context.time_remaining()
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            return MnistResponse(value=self._probabilities(request, RunOptions(deadline=deadline)))
        except ServingError as error:
            context.abort(*grpc_status(error))

    def _probabilities(self, request: MnistRequest, options: RunOptions) -> np.ndarray:
        if len(request.image_data) != PIXELS:
            raise InvalidArgument(
                f"expected image_data of size {PIXELS}, got {len(request.image_data)}"
            )
        image = np.array(request.image_data, np.float32)[np.newaxis]
        (scores,) = run_and_wait(self._servable, {self._images: image}, [self._scores], options)
        if scores.shape != (1, CLASSES):
            raise Internal(f"expected scores of shape [1, {CLASSES}], got {list(scores.shape)}")
        return scores[0]


@contextmanager
def serving(version: Path, address: str, queue: QueueOptions) -> Iterator[int]:
    """Serve the export in this directory; yields the port. Raises ServingError."""
    servable_id = ServableId("mnist", int(version.name) if version.name.isdecimal() else 1)
    platform = Platforms({"tensorflow": TensorFlowOptions()}).get("tensorflow")
    threads = SchedulerOptions(os.cpu_count() or 1, _BATCH_THREADS)
    scheduler = SharedBatchScheduler(threads, SystemClock())
    with ExitStack() as running:
        servable = platform.load(servable_id, str(version))
        scheduler.start()
        running.callback(scheduler.stop)
        batched = BatchingServable(
            servable, servable, scheduler, BatchingOptions(queue), SystemClock()
        )
        running.callback(batched.close)
        calls = running.enter_context(ThreadPoolExecutor(_CALLS_AT_ONCE))
        server = grpc.server(calls)
        classify = grpc.unary_unary_rpc_method_handler(
            MnistService(batched).classify, MnistRequest.FromString, MnistResponse.SerializeToString
        )
        server.add_registered_method_handlers(SERVICE, {"Classify": classify})
        port = server.add_insecure_port(address)
        server.start()
        running.callback(lambda: server.stop(_GRACE_SECONDS).wait())
        yield port


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an exported classifier of digits.")
    parser.add_argument("--port", type=int, default=9000, help="to listen on; 0: any free one")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("version", type=Path, help="directory of one exported version")
    arguments = parser.parse_args()

    queue = QueueOptions(max_enqueued_batches=_MAX_ENQUEUED_BATCHES)
    stop_signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)  # threads inherit it
    try:
        with serving(arguments.version, f"{arguments.host}:{arguments.port}", queue) as port:
            print(f"Running MnistService at {arguments.host}:{port}", flush=True)
            signal.sigwait(stop_signals)
    except ServingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
