"""LightGBM's text files are served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo
from serving.core.servable_id import ServableId

pytest.importorskip("lightgbm", reason="lightgbm is not installed")

import lightgbm

from serving.loaders.lightgbm_loader import LightGBMPlatform
from serving.loaders.native_options import NativeOptions

__all__ = ["served"]

ASKED = data.ASKED.astype(np.float64)
CLASSES = {"objective": "multiclass", "num_class": 3, "verbose": -1}
VALUES = {"objective": "regression", "verbose": -1}


def writing(parameters: Mapping[str, object]) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        label = data.CLASSES if parameters is CLASSES else data.VALUES
        rows = data.ROWS.astype(np.float64)
        booster = lightgbm.train(dict(parameters), lightgbm.Dataset(rows, label), 5)
        booster.save_model(directory / "model.txt")
        return {"predict": np.asarray(booster.predict(ASKED))}

    return write


case = partial(PlatformCase, options=NativeOptions(probe=False))
"""Without a process for each damaged file: test_native_crashes.py has what needs one."""

CASES = [
    case("classes", "lightgbm", "model.txt", writing(CLASSES), {"x": ASKED}),
    case("values", "lightgbm", "model.txt", writing(VALUES), {"x": ASKED}),
]


class TestLightGBM(PlatformTests):
    """One answer for each row, and one for each class."""


def test_the_signature_has_the_models_features(tmp_path: Path):
    writing(CLASSES)(tmp_path)
    (tmp_path / "README.txt").write_text("tree models are described here")
    servable = LightGBMPlatform().load(ServableId("m", 1), str(tmp_path))
    signature = servable.signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"x": TensorInfo("x", DType.DOUBLE, (None, 4))}
    assert signature.outputs == {"predict": TensorInfo("predict", DType.DOUBLE, (None, 3))}
