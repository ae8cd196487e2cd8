"""What the measurement of batching on a device runs: a model of ResNet-50's size."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import onnx_models  # noqa: F401  # skips where the packages that write and run ONNX are not there
import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model, for small images."""
    path = tmp_path_factory.mktemp("resnet50") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        patch.setattr(sys, "argv", ["resnet50.py", str(path), "32"])
        importlib.import_module("resnet50").main()
    return path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("bare_onnxruntime")


def test_the_model_has_the_size_of_resnet50(file: Path):
    """Of 25.6 million parameters, in four bytes each."""
    assert 25.5e6 < file.stat().st_size / 4 < 25.7e6


def test_the_bare_loop_tells_rates_and_what_the_model_answers(
    file: Path, bare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(sys, "argv", ["bare_onnxruntime.py", str(file), "0.01", "1", "2"])
    bare.main()
    answer = json.loads(capsys.readouterr().out)
    assert answer["rates"].keys() == {"1", "2"}
    assert min(answer["rates"].values()) > 0
    assert len(answer["first"]) == 1000
    assert math.isclose(sum(answer["first"]), 1, rel_tol=1e-3)  # scores of a softmax


def test_rows_are_the_same_however_many_there_are(monkeypatch: pytest.MonkeyPatch):
    """The server is asked for the first of them, and its answer compared with the loop's."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    loop = importlib.import_module("device_loop")
    assert (loop.rows(3, 8)[:1] == loop.rows(1, 8)).all()
