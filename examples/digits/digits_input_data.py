"""Scanned handwritten digits, in a part to train on and a part held out.

The 1,797 scans of 8 x 8 pixels that scikit-learn carries (from the UCI "Optical Recognition of
Handwritten Digits" set); nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

PIXELS = 64
CLASSES = 10
_HELD_OUT = 500
_SEED = 20


@dataclass(frozen=True, slots=True)
class Digits:
    """``images`` float32 [rows, 64], ink from 0 to 1; ``labels`` int64 [rows], 0 to 9."""

    images: np.ndarray
    labels: np.ndarray


def read_digits() -> tuple[Digits, Digits]:
    """The digits to train on and the held-out ones; the same split every time."""
    scans = load_digits()
    order = np.random.default_rng(_SEED).permutation(len(scans.target))
    images = (scans.data / 16.0).astype(np.float32)[order]
    labels = scans.target.astype(np.int64)[order]
    return (
        Digits(images[_HELD_OUT:], labels[_HELD_OUT:]),
        Digits(images[:_HELD_OUT], labels[:_HELD_OUT]),
    )
