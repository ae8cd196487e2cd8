"""Rows to train small models on, and two to ask them about."""

from __future__ import annotations

import numpy as np

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 4)).astype(np.float32)
CLASSES = (ROWS[:, 0] > ROWS[:, 1]).astype(np.int64) + (ROWS[:, 2] > 1)
VALUES = (ROWS[:, 0] * 2 - ROWS[:, 3]).astype(np.float64)
ASKED = ROWS[:2]
COLORS = np.array(["red", "green"], np.object_)[(ROWS[:, 0] > 0).astype(int)]
