"""PyTorch models, written by PyTorch itself, for the tests that serve them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# As the server does, before the import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "triton" not in sys.modules:
    sys.modules["triton"] = None
torch = pytest.importorskip("torch", reason="PyTorch is not installed")

BATCH = torch.export.Dim("batch", max=64)


class Tower(torch.nn.Module):
    """``x`` [batch, 4] floats and ``ids`` [batch] int64 → a dict of scores and of what ids are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": torch.relu(self.layer(x)), "twice": ids * 2, "even": ids % 2 == 0}


class Rows(torch.nn.Module):
    """``x`` [batch] floats → the same, and how many rows the run has; a tuple."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.clone(), torch.full_like(x, x.shape[0])


class InPlace(torch.nn.Module):
    """``x`` [batch, 1] floats → twice that, by writing to its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        return x


class Same(torch.nn.Module):
    """``x`` → the same values in new memory, whatever they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class Rounds(torch.nn.Module):
    """``x`` → x plus one, as often as its first number says."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x[0])):
            x = x + 1
        return x


TOWER_INPUTS = {
    "x": np.array([[1, 2, 3, 4], [-1, 0, 1, 0.5]], np.float32),
    "ids": np.array([2**40, 7], np.int64),
}


def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def own_outputs(module: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What PyTorch answers by itself; names as the server's for what is no dict."""
    with torch.inference_mode():
        given = module(**tensors(arrays))
    if isinstance(given, torch.Tensor):
        given = (given,)
    if not isinstance(given, dict):
        given = {f"output_{index}": tensor for index, tensor in enumerate(given)}
    return {name: tensor.numpy() for name, tensor in given.items()}


def export(file: Path, module: Any, inputs: Mapping[str, Any], sizes: Any = None) -> Path:
    """A ``.pt2`` file; ``sizes`` as torch.export's dynamic_shapes, else the batch alone varies."""
    if sizes is None:
        sizes = {name: {0: BATCH} for name in inputs}
    file.parent.mkdir(parents=True, exist_ok=True)
    program = torch.export.export(module.eval(), (), dict(inputs), dynamic_shapes=sizes)
    torch.export.save(program, file)
    return file


def _saved(make: Callable[[], Any], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make().save(file)
    return file


def script(file: Path, module: Any) -> Path:
    """A TorchScript file by the compiler."""
    return _saved(lambda: torch.jit.script(module.eval()), file)


def trace(file: Path, module: Any, *inputs: Any) -> Path:
    """A TorchScript file by watching a run."""
    return _saved(lambda: torch.jit.trace(module.eval(), inputs, strict=False), file)
