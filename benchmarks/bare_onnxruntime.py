"""How fast onnxruntime itself runs a model: one batch after the other in a loop, nothing around it.

    python benchmarks/bare_onnxruntime.py FILE SECONDS BATCH_SIZE…

Runs on a CUDA device where there is one. Prints, as JSON, where the model ran, the rows a second
at each batch size, and the outputs for the first row of :func:`rows`. Needs the packages numpy and
onnxruntime only.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_WARM_UP_RUNS = 3


def rows(count: int, image_size: int) -> np.ndarray:
    """Images of random bytes, the same every time."""
    shape = (count, 3, image_size, image_size)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def session_of(file: str) -> onnxruntime.InferenceSession:
    """The model, on the first of the providers that there are."""
    available = onnxruntime.get_available_providers()
    if _PROVIDERS[0] in available:
        onnxruntime.preload_dlls()
    providers = [provider for provider in _PROVIDERS if provider in available]
    options = onnxruntime.SessionOptions()
    # As in the server; threads that wait busily are slower where others use the processors too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=providers)


def rows_per_second(
    session: onnxruntime.InferenceSession, batch: np.ndarray, seconds: float
) -> float:
    """Runs with the batch for so long; arrays go in and come out as they do in the server."""
    feeds = {session.get_inputs()[0].name: batch}
    for _ in range(_WARM_UP_RUNS):
        session.run(None, feeds)
    runs, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds:
        session.run(None, feeds)
        runs += 1
    return runs * len(batch) / taken


def main() -> None:
    file, seconds, *sizes = sys.argv[1:]
    session = session_of(file)
    name, image_size = session.get_inputs()[0].name, session.get_inputs()[0].shape[-1]
    images = rows(max(map(int, sizes)), image_size)
    answer = {
        "provider": session.get_providers()[0],
        "rates": {
            size: rows_per_second(session, images[: int(size)], float(seconds)) for size in sizes
        },
        "first": session.run(None, {name: images[:1]})[0].ravel().tolist(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
