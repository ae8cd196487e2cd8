"""Caffe2's nets are served as every platform's are; what is peculiar to them: tests/loaders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from caffe2_cases import NET
from caffe2_models import save
from platform_tests import PlatformCase, PlatformTests, served

__all__ = ["served"]


def write(directory: Path) -> Mapping[str, np.ndarray]:
    sizes = {name: (1, *values.shape[1:]) for name, values in NET.inputs.items()}
    save(directory, NET.operators, NET.weights, sizes, NET.outputs)
    return NET.answers()


PREDICT = PlatformCase("predict", "caffe2", "predict_net.pb", write, NET.inputs, tolerance=1e-5)
CASES = [PREDICT, replace(PREDICT, id="init", file="init_net.pb")]


class TestCaffe2(PlatformTests):
    """Two nets, and what GraphPipe read beside them."""
