"""Frozen graphs through the tensorflow platform: what loads, what runs, and how it fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import exported_models
import numpy as np
import pytest
import session_bundles as bundles
import tensorflow as tf
from exported_models import Exported
from tensorflow.core.framework.graph_pb2 import GraphDef

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument, NotFound, ServingError
from serving.core.servable import Servable, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions

v1 = tf.compat.v1


def load(path: Path) -> Servable:
    return TensorFlowPlatform(TensorFlowOptions()).load(ServableId("m", 1), str(path))


def test_placeholders_are_inputs_and_what_nothing_uses_are_outputs(exported: Exported) -> None:
    """A placeholder that nothing depends on need not be fed."""
    servable = load(exported(bundles.frozen_graph))
    (signature,) = servable.signatures.values()
    assert list(servable.signatures) == ["serving_default"]
    assert signature.method_name == exported_models.PREDICT
    assert signature.inputs == {"x": TensorInfo("x:0", DType.FLOAT, (None, 2))}
    assert signature.outputs == {
        "parts": TensorInfo("parts:0", DType.FLOAT, (None, 1)),
        "parts:1": TensorInfo("parts:1", DType.FLOAT, (None, 1)),
        "sum": TensorInfo("sum:0", DType.FLOAT, (None,)),
    }


def test_answers_are_those_of_the_graph(exported: Exported) -> None:
    servable = load(exported(bundles.frozen_graph))
    for _ in range(3):
        total, part = run_and_wait(servable, {"x:0": np.float32([[2, 4]])}, ["sum:0", "parts:1"])
        assert (total.tolist(), part.tolist()) == ([7.0], [[4.0]])


def test_it_runs_on_the_device_that_is_asked_for(exported: Exported, tmp_path: Path) -> None:
    graph = GraphDef.FromString((exported(bundles.frozen_graph) / "graph.pb").read_bytes())
    for node in graph.node:
        node.device = "/job:worker/task:7/device:GPU:3"
    bundles.write_graph(tmp_path / "1", graph)
    platform = TensorFlowPlatform(TensorFlowOptions())
    servable = platform.load(ServableId("m", 1), str(tmp_path / "1"), CPU)
    (total,) = run_and_wait(servable, {"x:0": np.float32([[2, 4]])}, ["sum:0"])
    assert total.tolist() == [7.0]


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_saved_model_beside_it_is_what_is_served(
    exported: Exported, tmp_path: Path, name: str
) -> None:
    directory = Path(shutil.copytree(exported(bundles.frozen_graph), tmp_path / "1"))
    (directory / name).write_bytes(b"")
    with pytest.raises(NotFound, match="Could not find meta graph def"):
        load(directory)


def refused(directory: Path, error: type[ServingError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        load(directory)
    assert type(caught.value) is error


@pytest.mark.parametrize("names", [("a.pb", "b.pb"), ("fingerprint.pb",), ("keras_metadata.pb",)])
def test_without_exactly_one_graph_there_is_no_model(tmp_path: Path, names: tuple[str, ...]):
    for name in names:
        (tmp_path / name).touch()
    refused(tmp_path, NotFound, "does not appear to contain a SavedModel bundle")


def test_a_graph_with_variables_is_to_be_frozen_first(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        v1.get_variable("weight", initializer=0.5)
    bundles.write_graph(tmp_path / "1", graph.as_graph_def())
    refused(tmp_path / "1", InvalidArgument, "of which weight is one.*freeze the graph first")


def test_a_graph_that_is_cut_short(exported: Exported, tmp_path: Path) -> None:
    content = (exported(bundles.frozen_graph) / "graph.pb").read_bytes()
    (tmp_path / "graph.pb").write_bytes(content[: len(content) // 2])
    refused(tmp_path, InvalidArgument, r"^INVALID_ARGUMENT: graph\.pb is no graph, or not all of")


def test_garbage(tmp_path: Path) -> None:
    (tmp_path / "graph.pb").write_bytes(b"garbage" * 100)
    refused(tmp_path, InvalidArgument, r"graph\.pb is no graph")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "graph.pb").touch()
    refused(tmp_path, InvalidArgument, r"graph\.pb is no graph that computes anything")


def test_a_saved_model_by_another_name(exported: Exported, tmp_path: Path) -> None:
    shutil.copy(exported(exported_models.half_plus_two) / "saved_model.pb", tmp_path / "graph.pb")
    with pytest.raises(InvalidArgument, match=r"graph\.pb"):
        load(tmp_path)


def test_nodes_that_do_not_hold_together(tmp_path: Path) -> None:
    graph = GraphDef()
    graph.node.add(name="y", op="Neg", input=["nowhere"])
    bundles.write_graph(tmp_path / "1", graph)
    refused(tmp_path / "1", InvalidArgument, "the model cannot be loaded")


def test_an_operation_that_tensorflow_does_not_have(tmp_path: Path) -> None:
    graph = GraphDef()
    graph.node.add(name="y", op="NoSuchOperation")
    bundles.write_graph(tmp_path / "1", graph)
    refused(tmp_path / "1", NotFound, "NoSuchOperation")


def test_operations_that_compute_no_tensor(tmp_path: Path) -> None:
    graph = GraphDef()
    graph.node.add(name="nothing", op="NoOp")
    bundles.write_graph(tmp_path / "1", graph)
    refused(tmp_path / "1", InvalidArgument, "computes anything")


def declaring(exported: Exported, directory: Path, declared: object) -> Path:
    """A copy of the graph with this signature.json."""
    shutil.copytree(exported(bundles.frozen_graph), directory)
    (directory / "signature.json").write_text(json.dumps(declared))
    return directory


def test_a_signature_file_names_tensors_of_the_graph(exported: Exported, tmp_path: Path) -> None:
    """Any of them; a shape may say more than the graph does."""
    declared = {
        "inputs": {"y:0": {"dtype": "float", "shape": [4, 2]}},
        "outputs": {"sum": {"dtype": "float32"}},
    }
    servable = load(declaring(exported, tmp_path / "1", declared))
    signature = servable.signatures["serving_default"]
    assert signature.inputs == {"y:0": TensorInfo("y:0", DType.FLOAT, (4, 2))}
    assert signature.outputs == {"sum": TensorInfo("sum:0", DType.FLOAT, (None,))}
    (total,) = run_and_wait(servable, {"y:0": np.float32([[2, 4]])}, ["sum:0"])
    assert total.tolist() == [6.0]


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ({"nowhere": {"dtype": "float"}}, "nowhere.*not found in the Graph"),
        ({"x": {"dtype": "int64"}}, r"signature\.json: 'x' is declared int64"),
        ({"x": {"dtype": "float", "shape": [None, 3]}}, r"'x' is declared of shape \(None, 3\)"),
    ],
)
def test_a_signature_file_that_the_graph_does_not_fit(
    exported: Exported, tmp_path: Path, tensor: object, text: str
) -> None:
    refused(declaring(exported, tmp_path / "1", {"inputs": tensor}), InvalidArgument, text)
