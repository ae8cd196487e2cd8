"""What was trained on parameter servers is served by one machine, which has no such devices."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions

v1 = tf.compat.v1
X = np.arange(12, dtype=np.float32).reshape(2, 6)


def export(directory: Path) -> np.ndarray:
    """The product of x and w, which is in three parts. Returns that of X."""
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 6], name="x")
        with v1.variable_scope("model", partitioner=v1.fixed_size_partitioner(3)):
            weights = v1.get_variable("w", [6, 3], use_resource=False)
        y = tf.matmul(x, tf.convert_to_tensor(weights), name="y")
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.Builder(str(directory))
            builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
            builder.save()
            answer: np.ndarray = session.run(y, {x: X})
    return answer


def place_on_servers(directory: Path) -> None:
    """Have the operations name the devices that training on two parameter servers gives them."""
    file = directory / "saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    for node in saved.meta_graphs[0].graph_def.node:
        part = re.match(r"model/w/part_(\d)", node.name)
        node.device = f"/job:ps/task:{int(part[1]) % 2}" if part else "/job:worker/task:0"
    file.write_bytes(saved.SerializeToString())


@pytest.mark.parametrize("clear_devices", [True, False], ids=["cleared", "kept"])
def test_partitioned_variables_of_parameter_servers_are_served(tmp_path: Path, clear_devices: bool):
    expected = export(tmp_path / "1")
    if not clear_devices:
        place_on_servers(tmp_path / "1")
    platform = TensorFlowPlatform(TensorFlowOptions())
    servable = platform.load(ServableId("m", 1), str(tmp_path / "1"))
    (y,) = run_and_wait(servable, {"x:0": X}, ["y:0"])
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    servable.close()
