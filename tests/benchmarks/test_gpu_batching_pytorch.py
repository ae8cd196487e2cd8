"""What the measurement of batching on a device runs with PyTorch: a model of ResNet-50's size."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import pytorch_models  # noqa: F401  # skips where PyTorch is not installed

ROOT = Path(__file__).parent.parent.parent


def test_the_model_and_the_bare_loop_that_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """25.6 million parameters, in four bytes each, and rates and scores as the loops print them."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    file = tmp_path / "model.pt2"
    monkeypatch.setattr(sys, "argv", ["resnet50_pytorch.py", str(file), "32"])
    importlib.import_module("resnet50_pytorch").main()
    assert 25.5e6 < file.stat().st_size / 4 < 26e6
    monkeypatch.setattr(sys, "argv", ["bare_pytorch.py", str(file), "0.01", "1", "2"])
    importlib.import_module("bare_pytorch").main()
    answer = json.loads(capsys.readouterr().out)
    assert answer["rates"].keys() == {"1", "2"}
    assert min(answer["rates"].values()) > 0
    assert len(answer["first"]) == 1000
    assert math.isclose(sum(answer["first"]), 1, rel_tol=1e-3)  # scores of a softmax
