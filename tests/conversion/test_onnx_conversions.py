"""What is served by ONNX is written as ONNX, with the answers that it had."""

from __future__ import annotations

from pathlib import Path

import caffe2_models
import cntk_cases
import mxnet_models
import numpy as np
from caffe2_cases import NET

from serving.cli import main as model_server
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.platforms import Platforms


def loaded(path: Path):
    return Platforms({}).get("onnx").load(ServableId("m", 1), str(path))


def test_nets_of_caffe2_become_an_onnx_model(tmp_path: Path):
    """With the answers that were worked out without ONNX."""
    sizes = {name: (1, *values.shape[1:]) for name, values in NET.inputs.items()}
    caffe2_models.save(tmp_path / "old", NET.operators, NET.weights, sizes, NET.outputs)
    assert model_server(["convert", f"{tmp_path}/old", f"{tmp_path}/new", "--to=onnx"]) == 0
    answers = run_and_wait(loaded(tmp_path / "new" / "1"), NET.inputs, NET.outputs)
    for name, answer in zip(NET.outputs, answers, strict=True):
        np.testing.assert_allclose(answer, NET.answers()[name], 1e-5, 1e-5, err_msg=name)


def test_a_model_of_cntk_becomes_an_onnx_model(tmp_path: Path):
    """With CNTK's own answers."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.dnn").write_bytes(cntk_cases.NET.content())
    assert model_server(["convert", f"{tmp_path}/old", f"{tmp_path}/new", "--to=onnx"]) == 0
    expected = cntk_cases.NET.answers()
    found = run_and_wait(loaded(tmp_path / "new" / "1"), {"x": cntk_cases.NET.x}, list(expected))
    for answer, (name, wanted) in zip(found, expected.items(), strict=True):
        np.testing.assert_allclose(answer, wanted, 1e-5, 1e-5, err_msg=name)


def test_a_model_of_mxnet_becomes_an_onnx_model(tmp_path: Path):
    """With what its only layer computes."""
    (tmp_path / "old").mkdir()
    mxnet_models.write_regression(tmp_path / "old")
    assert model_server(["convert", f"{tmp_path}/old", f"{tmp_path}/new", "--to=onnx"]) == 0
    made = loaded(tmp_path / "new" / "1")
    (signature,) = made.signatures.values()
    (feed,), (fetch,) = signature.inputs.values(), signature.outputs.values()
    rows = np.array([[1, 2], [3, 4]], np.float32)
    (answer,) = run_and_wait(made, {feed.name: rows}, [fetch.name])
    np.testing.assert_allclose(answer, rows @ mxnet_models.WEIGHT.T + 4)
