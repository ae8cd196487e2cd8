"""Scanned handwritten digits in MNIST's size, in a part to train on and a part held out.

The 1,797 scans of 8 x 8 pixels that scikit-learn carries (from the UCI "Optical Recognition of
Handwritten Digits" set), each pixel three times as wide and high, with a margin of two; nothing is
downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

PIXELS = 28 * 28
CLASSES = 10
_HELD_OUT = 500
_SEED = 20


@dataclass(frozen=True, slots=True)
class Images:
    """``pixels`` float32 [rows, 784], ink from -0.5 to 0.5; ``labels`` int64 [rows], 0 to 9."""

    pixels: np.ndarray
    labels: np.ndarray


def read_images() -> tuple[Images, Images]:
    """The images to train on and the held-out ones; the same split every time."""
    scans = load_digits()
    order = np.random.default_rng(_SEED).permutation(len(scans.target))
    large = scans.images.repeat(3, axis=1).repeat(3, axis=2)
    framed = np.pad(large, ((0, 0), (2, 2), (2, 2)))
    pixels = (framed.reshape(-1, PIXELS) / 16.0 - 0.5).astype(np.float32)[order]
    labels = scans.target.astype(np.int64)[order]
    return (
        Images(pixels[_HELD_OUT:], labels[_HELD_OUT:]),
        Images(pixels[:_HELD_OUT], labels[:_HELD_OUT]),
    )
