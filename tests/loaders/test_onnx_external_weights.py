"""Weights of ONNX models in files of their own, which lie beside the model and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
from onnx import TensorProto, helper

from serving.core.errors import InvalidArgument
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.onnx_loader import OnnxPlatform

M1 = ServableId("m", 1)
WEIGHTS = np.float32([1, 2, 3, 4])


def weights_at(location: str) -> TensorProto:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        weights.external_data.add(key=key, value=value)
    return weights


def model_of(weights: TensorProto, place: str) -> onnx.ModelProto:
    """The sum of x and w, which are in the graph, in a node, or in a graph inside a node."""
    size = onnx_models.value("x", shape=[4]), onnx_models.value("y", shape=[4])
    add = helper.make_node("Add", ["x", "w"], ["y"])
    if place == "graph":
        graph = helper.make_graph([add], "g", size[:1], size[1:], [weights])
    elif place == "node":
        constant = helper.make_node("Constant", [], ["w"], value=weights)
        graph = helper.make_graph([constant, add], "g", size[:1], size[1:])
    else:
        true = onnx_models.constant("true", np.array(True))
        inner = helper.make_graph([add], "inner", [], size[1:], [weights])
        branch = helper.make_node("If", ["true"], ["y"], then_branch=inner, else_branch=inner)
        graph = helper.make_graph([branch], "g", size[:1], size[1:], [true])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx_models.OPSET)])
    model.ir_version = onnx_models.IR_VERSION
    return model


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version directory with weights beside the model, others above it, and links to these."""
    directory = tmp_path / "1"
    directory.mkdir()
    for file in (directory / "weights.bin", tmp_path / "secret"):
        file.write_bytes(WEIGHTS.tobytes())
    (directory / "link").symlink_to(tmp_path / "secret")
    (directory / "above").symlink_to(tmp_path)
    (directory / "short").write_bytes(b"abc")
    return directory


def write(version: Path, location: str, place: str) -> None:
    (version / "model.onnx").write_bytes(model_of(weights_at(location), place).SerializeToString())


PLACES = ["graph", "node", "branch"]


@pytest.mark.parametrize("place", PLACES)
def test_weights_beside_the_model_are_read(version: Path, place: str):
    write(version, "weights.bin", place)
    servable = OnnxPlatform().load(M1, str(version))
    (y,) = run_and_wait(servable, {"x": WEIGHTS}, ["y"])
    assert y.tolist() == [2, 4, 6, 8]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "location",
    ["{folder}/secret", "../secret", "link", "above/secret", "short", "*/_ORT_MEM_ADDR_/*", "no"],
)
def test_weights_elsewhere_are_not_read_and_their_paths_not_told(
    version: Path, location: str, place: str
):
    """By an absolute path, by one that leads up, by links, or in the server's own memory."""
    write(version, location.format(folder=version.parent), place)
    with pytest.raises(InvalidArgument, match="the ONNX model can not be loaded: ") as raised:
        OnnxPlatform().load(M1, str(version))
    told = raised.value.message.replace(location.format(folder=version.parent), "")
    assert str(version.parent) not in told
