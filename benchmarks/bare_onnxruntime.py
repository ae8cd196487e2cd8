"""How fast onnxruntime itself runs a model: one batch after the other in a loop, nothing around it.

    python benchmarks/bare_onnxruntime.py FILE SECONDS BATCH_SIZE…

Runs on a CUDA device where there is one. Prints what :func:`device_loop.print_rates` says. Needs
the packages numpy and onnxruntime only.
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime

from device_loop import print_rates

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


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


def main() -> None:
    file, seconds, *sizes = sys.argv[1:]
    session = session_of(file)
    images = session.get_inputs()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        scores: np.ndarray = session.run(None, {images.name: batch})[0]
        return scores

    print_rates(session.get_providers()[0], run, images.shape[-1], float(seconds), sizes)


if __name__ == "__main__":
    main()
