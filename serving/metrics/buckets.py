"""Bounds of histograms."""

from __future__ import annotations


def exponential(first: float, growth: float, count: int) -> tuple[float, ...]:
    """``count`` bounds, each so many times the one before.

    Multiplied step by step as TensorFlow does it, so that the last digits are the same.
    """
    bounds = [float(first)]
    while len(bounds) < count:
        bounds.append(bounds[-1] * growth)
    return tuple(bounds)
