"""One batch after the other in a loop: what a framework does with nothing around it.

Needs the package numpy only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

_WARM_UP_RUNS = 3

Run = Callable[[np.ndarray], np.ndarray]
"""A batch of images to its scores, as arrays in main memory, as they come and go in the server."""


def rows(count: int, image_size: int) -> np.ndarray:
    """Images of random bytes, the same every time."""
    shape = (count, 3, image_size, image_size)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def rows_per_second(run: Run, batch: np.ndarray, seconds: float) -> float:
    """Runs with the batch for so long."""
    for _ in range(_WARM_UP_RUNS):
        run(batch)
    runs, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds:
        run(batch)
        runs += 1
    return runs * len(batch) / taken


def print_rates(
    provider: str, run: Run, image_size: int, seconds: float, sizes: Sequence[str]
) -> None:
    """As JSON: where the model ran, the rows a second at each batch size, the first row's scores.

    That row is the first of :func:`rows`.
    """
    images = rows(max(map(int, sizes)), image_size)
    answer = {
        "provider": provider,
        "rates": {size: rows_per_second(run, images[: int(size)], seconds) for size in sizes},
        "first": run(images[:1]).ravel().tolist(),
    }
    json.dump(answer, sys.stdout)
