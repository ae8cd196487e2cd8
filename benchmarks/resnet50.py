"""Writes an ONNX model of ResNet-50's shape, with random weights and pixels as bytes.

    python benchmarks/resnet50.py FILE IMAGE_SIZE

Input ``images`` uint8 [batch, 3, IMAGE_SIZE, IMAGE_SIZE], output ``scores`` float32 [batch, 1000].
Needs the packages numpy and onnx only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""The width of each stage and how many bottlenecks it has."""

_EXPANSION = 4
_CLASSES = 1000
_OPSET = 17
_IR_VERSION = 8  # that onnxruntime has read for years


class Graph:
    """Nodes and weights, gathered one layer after the other; a layer is known by its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def node(self, operation: str, *inputs: str, **attributes: object) -> str:
        """A node with one output; the output's name."""
        output = f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def weight(self, values: np.ndarray) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def convolution(self, x: str, inputs: int, outputs: int, size: int, stride: int = 1) -> str:
        """A convolution without bias, then batch normalization."""
        scale = (2 / (inputs * size * size)) ** 0.5  # keeps the values' size through the layers
        kernel = self.weight(self._random.normal(0, scale, (outputs, inputs, size, size)))
        x = self.node("Conv", x, kernel, strides=[stride] * 2, pads=[size // 2] * 4)
        ones, zeros = np.ones(outputs), np.zeros(outputs)
        return self.node(
            "BatchNormalization",
            x,
            *(self.weight(values) for values in (ones, zeros, zeros, ones)),
        )

    def bottleneck(self, x: str, inputs: int, width: int, stride: int) -> str:
        """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""
        y = self.node("Relu", self.convolution(x, inputs, width, 1))
        y = self.node("Relu", self.convolution(y, width, width, 3, stride))
        y = self.convolution(y, width, width * _EXPANSION, 1)
        if inputs != width * _EXPANSION:
            x = self.convolution(x, inputs, width * _EXPANSION, 1, stride)
        halved = self.node("Mul", self.node("Add", x, y), self.weight(np.array(0.5**0.5)))
        return self.node("Relu", halved)

    def classifier(self, x: str, inputs: int) -> str:
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x))
        weights = self.weight(self._random.normal(0, 0.01, (inputs, _CLASSES)))
        return self.node("Softmax", self.node("MatMul", pooled, weights))


def resnet50(image_size: int) -> onnx.ModelProto:
    """The model, with random weights that are the same every time."""
    graph = Graph()
    x = graph.node("Cast", "images", to=TensorProto.FLOAT)
    x = graph.node("Sub", x, graph.weight(np.array(127.5)))
    x = graph.node("Div", x, graph.weight(np.array(64.0)))
    x = graph.node("Relu", graph.convolution(x, 3, 64, 7, 2))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, (width, blocks) in enumerate(_STAGES):
        for block in range(blocks):
            x = graph.bottleneck(x, channels, width, 2 if stage and not block else 1)
            channels = width * _EXPANSION
    scores = graph.classifier(x, channels)
    return _model(graph, scores, image_size)


def _model(graph: Graph, scores: str, image_size: int) -> onnx.ModelProto:
    shape: Sequence[str | int] = ("batch", 3, image_size, image_size)
    graph.nodes.append(helper.make_node("Identity", [scores], ["scores"]))
    made = helper.make_graph(
        graph.nodes,
        "resnet50",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("batch", _CLASSES))],
        graph.weights,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    return model


def main() -> None:
    file, image_size = sys.argv[1:]
    onnx.save(resnet50(int(image_size)), file)


if __name__ == "__main__":
    main()
