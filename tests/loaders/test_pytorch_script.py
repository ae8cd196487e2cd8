"""TorchScript says which outputs it has only where it makes them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_models as models  # skips where PyTorch is not installed

from serving.core.errors import InvalidArgument
from serving.core.servable_id import ServableId
from serving.loaders.pytorch_loader import PyTorchPlatform

torch = models.torch


class Appended(torch.nn.Module):
    """A list that is filled later."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        outputs: list[torch.Tensor] = []
        outputs.append(x)
        return outputs


class Completed(torch.nn.Module):
    """A dict that gets another key later."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = {"first": x}
        outputs["second"] = x * 2
        return outputs


@pytest.mark.parametrize("make", [Appended, Completed])
def test_outputs_that_are_put_in_later_have_to_be_declared(tmp_path: Path, make: Any):
    models.script(tmp_path / "model.pt", make())
    with pytest.raises(
        InvalidArgument, match=r"without outputs in signature\.json, it has to give"
    ):
        PyTorchPlatform().load(ServableId("m", 1), str(tmp_path))
    declared = '{"outputs": {"first": {"dtype": "float"}}}'
    (tmp_path / "signature.json").write_text(declared)
    PyTorchPlatform().load(ServableId("m", 1), str(tmp_path)).close()
