"""PyTorch models are served as every platform's are; what is peculiar to them: tests/loaders."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_models as models  # skips where PyTorch is not installed
from platform_tests import PlatformCase, PlatformTests, served

__all__ = ["served"]

torch = models.torch
AUTO, BATCH = torch.export.Dim.AUTO, models.BATCH

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


class Sequences(torch.nn.Module):
    """``batch``, a dict of ``ids`` [rows, words] and ``x`` [rows, 4], to nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = torch.nn.Embedding(10, 4)
        self.layer = torch.nn.Linear(8, 2)

    def forward(self, batch: dict[str, Any], *, scaled: bool = False) -> dict[str, Any]:
        row = torch.cat([self.words(batch["ids"]).mean(1), batch["x"]], dim=-1)
        scores = self.layer(row) / (2 if scaled else 1)
        return {"scores": scores, "best": (row.argmax(-1), [row.amax(-1)])}


class Images(torch.nn.Module):
    """``x`` [rows, 3, 8, 8] → probabilities of five classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3, padding=1),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(inplace=True),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Dropout(),
            torch.nn.Linear(4, 5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).softmax(-1)


class Recurrent(torch.nn.Module):
    """``x`` [rows, steps, 4] → the states of all steps, and what is left out of a list."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.GRU(4, 3, batch_first=True)

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> list[torch.Tensor]:
        states, _ = self.layer(x)
        return [states, states[:, -1] * scale]


IDS = np.array([[1, 2, 3], [4, 5, 6]])
IMAGES = np.linspace(-1, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
STEPS = np.linspace(-1, 1, 2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4)
X = models.TOWER_INPUTS["x"]


def sequences(directory: Path) -> Mapping[str, np.ndarray]:
    """With a dict as input, a keyword with one value, and two dimensions of any size."""
    batch = models.tensors({"ids": IDS, "x": X})
    sizes = {"batch": {"ids": {0: BATCH, 1: AUTO}, "x": {0: BATCH}}, "scaled": None}
    module = Sequences().eval()
    program = torch.export.export(module, (batch,), {"scaled": True}, dynamic_shapes=sizes)
    torch.export.save(program, directory / "sequences.pt2")
    found = module(batch, scaled=True)
    best, (most,) = found["best"]
    named = {"scores": found["scores"], "best_0": best, "best_1_0": most}
    return {name: tensor.detach().numpy() for name, tensor in named.items()}


def images(directory: Path) -> Mapping[str, np.ndarray]:
    """In the operators that programs are lowered to."""
    example = models.tensors({"x": IMAGES})
    sizes = {"x": {0: AUTO}}
    program = torch.export.export(Images().eval(), (), example, dynamic_shapes=sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what PyTorch itself is built of
        torch.export.save(program.run_decompositions(), directory / "model.pt2")
    return models.own_outputs(Images().eval(), {"x": IMAGES})


def recurrent(directory: Path) -> Mapping[str, np.ndarray]:
    models.script(directory / "model.pth", Recurrent())
    signature = {"inputs": {"x": {"dtype": "float", "shape": [None, None, 4]}}}
    (directory / "signature.json").write_text(json.dumps(signature))
    return models.own_outputs(Recurrent(), {"x": STEPS})


def converted(**options: Any) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
        names = {"input_names": ["x"], "output_names": ["output_0"], **options}
        module, example = Images().eval(), (torch.from_numpy(IMAGES),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as above
            torch.onnx.export(module, example, directory / "model.onnx", verbose=False, **names)
        return models.own_outputs(module, {"x": IMAGES})

    return write


ROWS = {"x": {0: "rows"}, "output_0": {0: "rows"}}
CASES = [
    PlatformCase("pt2", "pytorch", "model.pt2", exported, models.TOWER_INPUTS, tolerance=1e-6),
    PlatformCase("traced", "pytorch", "model.pt", traced, models.TOWER_INPUTS, tolerance=1e-6),
    PlatformCase("scripted", "pytorch", "tower.ts", scripted, models.TOWER_INPUTS, tolerance=1e-6),
    PlatformCase(
        "nested",
        "pytorch",
        "sequences.pt2",
        sequences,
        {"batch_ids": IDS, "batch_x": X},
        tolerance=1e-6,
    ),
    PlatformCase("lowered", "pytorch", "model.pt2", images, {"x": IMAGES}, tolerance=1e-5),
    PlatformCase("list", "pytorch", "model.pth", recurrent, {"x": STEPS}, tolerance=1e-6),
    PlatformCase(
        "to ONNX",
        "onnx",
        "model.onnx",
        converted(dynamo=True, dynamic_shapes=({0: BATCH},)),
        {"x": IMAGES},
        tolerance=1e-5,
    ),
    PlatformCase(
        "to ONNX by a trace",
        "onnx",
        "model.onnx",
        converted(dynamo=False, dynamic_axes=ROWS, opset_version=9),
        {"x": IMAGES},
        tolerance=1e-5,
    ),
]


class TestPyTorch(PlatformTests):
    """Exported programs, TorchScript of both origins, and what PyTorch converts to ONNX."""
