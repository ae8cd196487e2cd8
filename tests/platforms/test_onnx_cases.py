"""ONNX models are served as every platform's are; what is peculiar to them: tests/loaders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_models
from platform_tests import PlatformCase, PlatformTests, served

__all__ = ["served"]

X = np.array([[1], [5]], np.float32)


def write(directory: Path) -> Mapping[str, np.ndarray]:
    onnx_models.half_plus_two(directory)
    return {"y": X / 2 + 2}


CASES = [PlatformCase("onnx", "onnx", "model.onnx", write, {"x": X})]


class TestOnnx(PlatformTests):
    """An extension and one model file."""
