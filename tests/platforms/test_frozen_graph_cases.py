"""Frozen graphs on a server: as every platform's models, and what is peculiar to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import session_bundles
import tensorflow as tf
from platform_tests import PlatformCase, PlatformTests, served
from tensorflow.core.framework.graph_pb2 import GraphDef

from serving.loaders.tensorflow_options import TensorFlowOptions

__all__ = ["served"]  # the fixture, which pytest finds here

INPUTS = {"x": np.float32([[1, 2], [3, 5]])}


def write(directory: Path) -> Mapping[str, np.ndarray]:
    session_bundles.frozen_graph(directory)
    graph_def = GraphDef.FromString((directory / "graph.pb").read_bytes())
    names = {"sum": "sum:0", "parts": "parts:0", "parts:1": "parts:1"}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(graph_def, name="")
        values = session.run(list(names.values()), {"x:0": INPUTS["x"]})
    return dict(zip(names, values, strict=True))


CASES = [
    PlatformCase("frozen", "tensorflow", "graph.pb", write, INPUTS, options=TensorFlowOptions())
]


class TestFrozenGraph(PlatformTests):
    pass
