"""``onnxruntime.json`` beside a model says how onnxruntime runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models as models
import onnxruntime
import pytest

from serving.core.errors import InvalidArgument
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.onnx_loader import OnnxPlatform, OnnxServable

M1 = ServableId("m", 1)


def load(path: Path, settings: str) -> OnnxServable:
    models.half_plus_two(path)
    (path / "onnxruntime.json").write_text(settings)
    return OnnxPlatform().load(M1, str(path))


def test_settings_reach_the_session_and_answers_stay(tmp_path: Path):
    settings = {
        "intra_op_threads": 3,
        "inter_op_threads": 2,
        "execution_mode": "parallel",
        "graph_optimization_level": "none",
    }
    servable = load(tmp_path, json.dumps(settings))
    options = servable._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (y,) = run_and_wait(servable, {"x": np.array([[2.0]], np.float32)}, ["y"])
    assert y.tolist() == [[3.0]]


def test_models_that_become_onnx_as_they_load_have_them_too(tmp_path: Path):
    model = models.half_plus_two(tmp_path / "other") / "model.onnx"
    (tmp_path / "onnxruntime.json").write_text('{"intra_op_threads": 2}')
    servable = OnnxPlatform().load_model(M1, model.read_bytes(), str(tmp_path))
    assert servable._session.get_session_options().intra_op_num_threads == 2


@pytest.mark.parametrize("device", [None, Device("gpu", 1)])
def test_the_memory_limit_is_that_of_the_cuda_provider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device | None
):
    class Session:
        """As far as it matters here, onnxruntime's on a machine with GPUs."""

        def __init__(self, path: str, options: object, **kwargs: Any) -> None:
            ((self.provider, self.options), _) = kwargs["providers"]

        def get_providers(self) -> list[str]:
            return [self.provider]

        def get_inputs(self) -> list[object]:
            return []

        get_outputs = get_inputs

    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    models.half_plus_two(tmp_path)
    (tmp_path / "onnxruntime.json").write_text('{"gpu_memory_limit_bytes": 1000000}')
    servable = OnnxPlatform().load(M1, str(tmp_path), device)
    assert servable._session.provider == "CUDAExecutionProvider"
    assert servable._session.options["gpu_mem_limit"] == "1000000"
    assert servable._session.options.get("device_id") == (None if device is None else "1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "onnxruntime.json is no JSON: Expecting property name"),
        ("[1]", "onnxruntime.json: it must be an object, which may have intra_op_threads, inter_"),
        ('{"register_custom_ops_library": "/x.so"}', "onnxruntime.json: it must be an object, wh"),
        (
            '{"intra_op_threads": "two"}',
            'onnxruntime.json: intra_op_threads must be an integer from 0 to 256, not "two"',
        ),
        (
            '{"inter_op_threads": 257}',
            "onnxruntime.json: inter_op_threads must be an integer from 0 to 256, not 257",
        ),
        ('{"intra_op_threads": true}', "onnxruntime.json: intra_op_threads must be an integer"),
        ('{"gpu_memory_limit_bytes": -1}', "onnxruntime.json: gpu_memory_limit_bytes must be an i"),
        (
            '{"execution_mode": "fast"}',
            'onnxruntime.json: execution_mode must be one of sequential, parallel, not "fast"',
        ),
        ('{"graph_optimization_level": []}', "onnxruntime.json: graph_optimization_level must be"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_value(tmp_path: Path, text: str, says: str):
    with pytest.raises(InvalidArgument) as raised:
        load(tmp_path, text)
    assert raised.value.message.startswith(says)
