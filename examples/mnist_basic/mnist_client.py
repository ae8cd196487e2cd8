"""Asks MnistService about held-out digits and says how often its answer is wrong.

    python examples/mnist_basic/mnist_client.py --server=HOST:PORT [--num_tests=N]
        [--concurrency=N] [--deadline_seconds=S]

Sends one image a call, up to ``concurrency`` of them in flight. Prints a dot for each answer; ends
with status 1 if a call failed, or was not answered by its deadline.
"""

from __future__ import annotations

import argparse
import sys
import threading

import grpc
import numpy as np
from mnist_input_data import Images, read_images

from serving.generated.mnist_inference_pb2 import MnistRequest, MnistResponse

_CLASSIFY = "/tensorflow.serving.MnistService/Classify"


class Tally:
    """Counts answers, and lets at most ``concurrency`` calls be in flight. Thread-safe."""

    def __init__(self, concurrency: int) -> None:
        self._free = threading.Semaphore(concurrency)
        self._concurrency = concurrency
        self._lock = threading.Lock()
        self.answers = 0
        self.errors = 0
        self.failures = 0

    def begin(self) -> None:
        """Wait until another call may start."""
        self._free.acquire()

    def end(self, call: grpc.Future, label: int) -> None:
        """Count what became of a call about an image of ``label``."""
        failure = call.exception()
        with self._lock:
            if failure is None:
                self.answers += 1
                self.errors += int(np.argmax(call.result().value)) != label
                print(".", end="", flush=True)
            else:
                self.failures += 1
                print(f"\n{failure.code().name}: {failure.details()}", file=sys.stderr)
        self._free.release()

    def wait(self) -> None:
        """Wait until no call is in flight."""
        for _ in range(self._concurrency):
            self._free.acquire()


def ask(server: str, images: Images, concurrency: int, deadline_seconds: float) -> Tally:
    """Send every image in a request of its own; returns when all are answered."""
    tally = Tally(concurrency)
    with grpc.insecure_channel(server) as channel:
        classify = channel.unary_unary(
            _CLASSIFY, MnistRequest.SerializeToString, MnistResponse.FromString
        )
        for pixels, label in zip(images.pixels, images.labels, strict=True):
            tally.begin()
            call = classify.future(MnistRequest(image_data=pixels), deadline_seconds)
            call.add_done_callback(lambda done, label=int(label): tally.end(done, label))
        tally.wait()
    return tally


def main() -> int:
    _, held_out = read_images()
    most = len(held_out.labels)
    parser = argparse.ArgumentParser(description="Measure the error rate of MnistService.")
    parser.add_argument("--server", required=True, help="host:port of the service")
    parser.add_argument("--num_tests", type=int, default=100, help=f"images, 1 to {most}")
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight at once")
    parser.add_argument("--deadline_seconds", type=float, default=5, help="for each call")
    arguments = parser.parse_args()
    if not 1 <= arguments.num_tests <= most:
        parser.error(f"--num_tests must be 1 to {most}, not {arguments.num_tests}")
    if arguments.concurrency < 1:
        parser.error(f"--concurrency must be at least 1, not {arguments.concurrency}")
    if not arguments.deadline_seconds > 0:
        parser.error(f"--deadline_seconds must be positive, not {arguments.deadline_seconds:g}")

    count = arguments.num_tests
    images = Images(held_out.pixels[:count], held_out.labels[:count])
    tally = ask(arguments.server, images, arguments.concurrency, arguments.deadline_seconds)
    print()
    if tally.answers:
        print(f"Inference error rate: {tally.errors / tally.answers:.1%}")
    if tally.failures:
        print(f"{tally.failures} of {count} calls failed", file=sys.stderr)
    return int(tally.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
