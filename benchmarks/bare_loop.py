"""Rows per second of a model in a loop, with no server around it, for each size of batch.

    python benchmarks/bare_loop.py SAVED_MODEL SECONDS SIZE...

Prints them as JSON, by size. The input ``x`` is random; all of its dimensions but the first must be
fixed.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def main() -> None:
    path, seconds, *sizes = sys.argv[1:]
    model = tf.saved_model.load(path)
    predict = model.signatures["serving_default"]
    _, inputs = predict.structured_input_signature
    row_shape = inputs["x"].shape[1:]
    random = np.random.default_rng(0)
    rates = {}
    for size in map(int, sizes):
        rows = tf.constant(random.random((size, *row_shape), np.float32))
        predict(x=rows)  # the first run of a shape takes longer
        runs, started = 0, time.perf_counter()
        while (taken := time.perf_counter() - started) < float(seconds):
            predict(x=rows)["y"].numpy()
            runs += 1
        rates[size] = size * runs / taken
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
