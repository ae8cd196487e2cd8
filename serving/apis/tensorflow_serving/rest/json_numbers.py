"""Decimal text of floating-point arrays: the shortest that reads back as the same number."""

from __future__ import annotations

import math
import struct

import numpy as np

_DOUBLE_DIGITS = 17
_PRECISE_DIGITS = {np.dtype(np.float32): 9, np.dtype(np.float64): _DOUBLE_DIGITS}
_FLOAT32 = struct.Struct("f")
_FEW = 24  # up to here a loop is faster than the fixed cost of a dozen numpy operations
_POWERS_OF_TEN = 10.0 ** np.arange(23)  # every one of them is exact in a double


def decimal_texts(values: np.ndarray) -> list[str]:
    """One text for each element of a float32 or float64 array, in order.

    ``%.6g`` where that reads back as the same number, else as many digits as always do (9 or 17);
    whole numbers keep a ``.0`` unless they have an exponent, so that readers see a float;
    ``NaN``, ``Infinity`` and ``-Infinity`` stand bare.
    """
    flat = values.ravel()
    digits = _PRECISE_DIGITS[flat.dtype]
    if flat.size <= _FEW:
        return [_decimal_text(value, digits) for value in flat.tolist()]
    return _many_decimal_texts(flat, digits)


def _decimal_text(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    text = f"{value:.6g}"
    read = float(text)
    if read != value and (digits == _DOUBLE_DIGITS or _as_float32(read) != value):
        text = f"{value:.{digits}g}"
    return text if "." in text or "e" in text else text + ".0"


def _as_float32(value: float) -> float:
    rounded: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return rounded


def _many_decimal_texts(flat: np.ndarray, digits: int) -> list[str]:
    """What :func:`_decimal_text` gives for each, in one formatting operation."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN all the same
        wide = flat.astype(np.float64)
        whole = np.isfinite(wide) & (wide == np.trunc(wide))
    short = _reads_back_from_six_digits(flat, wide)
    without_exponent = np.abs(wide) < np.where(short, 1e6, 10.0**digits)
    form = np.where(short, 0, 2) + (whole & without_exponent)
    form[np.isnan(wide)] = 4
    form[wide == np.inf] = 5
    form[wide == -np.inf] = 6
    # "%.0s" takes a value from the tuple and prints nothing of it.
    not_finite = ["NaN%.0s", "Infinity%.0s", "-Infinity%.0s"]
    finite = ["%.6g", "%.6g.0", f"%.{digits}g", f"%.{digits}g.0"]
    forms = np.array([*finite, *not_finite], dtype=object)
    return (" ".join(forms[form].tolist()) % tuple(wide.tolist())).split(" ")


def _reads_back_from_six_digits(values: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Whether ``%.6g`` of each value parses to the value itself.

    A significand of six digits times or divided by a power of ten up to 10**22 is one exact
    operand each, so the single rounding gives the very double that a parser gives.
    """
    magnitude = np.abs(wide)
    usual = np.isfinite(wide) & (magnitude > 0)
    exponent = np.zeros(wide.shape, dtype=np.int64)
    exponent[usual] = np.floor(np.log10(magnitude[usual])) - 5
    near = np.abs(exponent) <= 22
    power = _POWERS_OF_TEN[np.minimum(np.abs(exponent), 22)]
    with np.errstate(over="ignore", invalid="ignore"):
        parsed = np.where(
            exponent >= 0, np.rint(wide / power) * power, np.rint(wide * power) / power
        )
        parsed[~near] = [float(f"{value:.6g}") for value in wide[~near].tolist()]
        same: np.ndarray = parsed.astype(values.dtype) == values
    return same
