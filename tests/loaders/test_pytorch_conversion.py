"""``pytorch.json`` beside a model says which type it computes in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_models as models  # skips where PyTorch is not installed

from serving.core.errors import InvalidArgument
from serving.core.servable import Servable, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.pytorch_loader import PyTorchPlatform

torch = models.torch
X = np.array([[1.001, 2, 3, 4], [-1, 0, 1, 0.5]], np.float32)
DTYPES = ["float64", "bfloat16", "float16", "float32"]


class Mixed(torch.nn.Module):
    """``x`` [batch, 4] floats → a layer's rows by way of a buffer, a constant, a tensor made here
    and a cast, whose types have to suit each other; and where each row's largest number is.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(4, 3)
        self.second = torch.nn.Linear(3, 2)
        self.register_buffer("scale", torch.tensor([0.5, 1.25, 3.0]))
        self.shift = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inner = self.first(x.to(torch.float32)) * self.scale + self.shift + torch.ones(3)
        return self.second(inner), x.argmax(1)


def load(folder: Path, settings: str) -> Servable:
    (folder / "pytorch.json").write_text(settings)
    return PyTorchPlatform().load(ServableId("m", 1), str(folder))


@pytest.mark.parametrize("name", DTYPES)
def test_an_exported_program_computes_in_it_and_answers_in_its_own(tmp_path: Path, name: str):
    models.export(tmp_path / "model.pt2", Mixed(), {"x": torch.from_numpy(X.copy())})
    servable = load(tmp_path, json.dumps({"dtype": name}))
    y, largest = run_and_wait(servable, {"x": X}, ["output_0", "output_1"])
    dtype = getattr(torch, name)
    module = Mixed().eval()
    inner = module.first.to(dtype)(torch.from_numpy(X).to(dtype)) * module.scale.to(dtype)
    inner = inner + module.shift.to(dtype) + torch.ones(3, dtype=dtype)
    expected = module.second.to(dtype)(inner).to(torch.float32).detach().numpy()
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)
    assert largest.tolist() == [3, 2]


@pytest.mark.parametrize("name", DTYPES)
def test_torchscript_computes_in_it_and_answers_as_declared(tmp_path: Path, name: str):
    layer = torch.nn.Linear(4, 3)
    models.script(tmp_path / "model.pt", layer)
    declared = {
        "inputs": {"input": {"dtype": "float", "shape": [None, 4]}},
        "outputs": {"y": {"dtype": "float", "shape": [None, 3]}},
    }
    (tmp_path / "signature.json").write_text(json.dumps(declared))
    servable = load(tmp_path, json.dumps({"dtype": name}))
    (y,) = run_and_wait(servable, {"input": X}, ["y"])
    dtype = getattr(torch, name)
    with torch.inference_mode():
        expected = layer.to(dtype)(torch.from_numpy(X).to(dtype)).to(torch.float32).numpy()
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '{"dtype": "int8"}',
            'pytorch.json: dtype must be one of float32, float64, bfloat16, float16, not "int8"',
        ),
        ('{"device": "gpu"}', "pytorch.json: it must be an object, which may have dtype"),
        ("", "pytorch.json is no JSON: Expecting value"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_value(tmp_path: Path, text: str, says: str):
    models.script(tmp_path / "model.pt", torch.nn.Linear(4, 3))
    with pytest.raises(InvalidArgument) as raised:
        load(tmp_path, text)
    assert raised.value.message.startswith(says)
