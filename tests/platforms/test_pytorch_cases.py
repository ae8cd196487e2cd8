"""PyTorch models are served as every platform's are; what is peculiar to them: tests/loaders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytorch_models as models  # skips where PyTorch is not installed
from platform_tests import PlatformCase, PlatformTests, served

__all__ = ["served"]

SIGNATURE = {
    "inputs": {
        "x": {"dtype": "float", "shape": [None, 4]},
        "ids": {"dtype": "int64", "shape": [None]},
    }
}


def exported(directory: Path) -> Mapping[str, np.ndarray]:
    tower = models.Tower()
    models.export(directory / "model.pt2", tower, models.tensors(models.TOWER_INPUTS))
    return models.own_outputs(tower, models.TOWER_INPUTS)


def traced(directory: Path) -> Mapping[str, np.ndarray]:
    tower = models.Tower()
    models.trace(directory / "model.pt", tower, *models.tensors(models.TOWER_INPUTS).values())
    (directory / "signature.json").write_text(json.dumps(SIGNATURE))
    return models.own_outputs(tower, models.TOWER_INPUTS)


def scripted(directory: Path) -> Mapping[str, np.ndarray]:
    tower = models.Tower()
    models.script(directory / "tower.ts", tower)
    (directory / "signature.json").write_text(json.dumps(SIGNATURE))
    return models.own_outputs(tower, models.TOWER_INPUTS)


CASES = [
    PlatformCase("pt2", "pytorch", "model.pt2", exported, models.TOWER_INPUTS, tolerance=1e-6),
    PlatformCase("traced", "pytorch", "model.pt", traced, models.TOWER_INPUTS, tolerance=1e-6),
    PlatformCase("scripted", "pytorch", "tower.ts", scripted, models.TOWER_INPUTS, tolerance=1e-6),
]


class TestPyTorch(PlatformTests):
    """An exported program, and TorchScript of both origins."""
