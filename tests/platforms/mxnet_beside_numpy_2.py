"""MXNet 1.9, which was written for numpy 1, imported beside numpy 2: for tests alone, to compare.

It reads names of numpy that are gone, most of them only to list numpy's functions.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

import numpy as np

_TYPES = {
    "bool": bool,
    "complex": complex,
    "complex_": np.complex128,
    "float": float,
    "float_": np.float64,
    "int": int,
    "long": int,
    "object": object,
    "str": str,
    "unicode": str,
}
_VALUES = {"Inf": np.inf, "NAN": np.nan, "NINF": -np.inf, "NZERO": -0.0, "NaN": np.nan}
_VALUES |= {"Infinity": np.inf, "PINF": np.inf, "PZERO": 0.0, "infty": np.inf}
_FUNCTIONS = {
    "alltrue": np.all,
    "cumproduct": np.cumprod,
    "in1d": np.isin,
    "product": np.prod,
    "round_": np.round,
    "sometrue": np.any,
    "trapz": np.trapezoid,
}
_NEVER_CALLED = ("mirr", "msort", "npv", "pmt", "ppmt", "pv", "rate")


def import_mxnet() -> ModuleType:
    """The module; numpy keeps the added names, which MXNet's functions look up as they run."""
    if "mxnet" in sys.modules:
        return sys.modules["mxnet"]
    added = {**_TYPES, **_VALUES, **_FUNCTIONS, **dict.fromkeys(_NEVER_CALLED, np.sum)}
    for name, value in added.items():
        if name not in vars(np):
            setattr(np, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("mxnet")
