"""Caffe2's operators that move values about: shapes, slices, copies, selections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.caffe2_operator import Operator, Writer, as_it_was, channels_first
from serving.loaders.caffe2_weights import DATA_TYPES
from serving.loaders.onnx_builder import element_type

_END = 2**63 - 1
_INT32, _INT64 = element_type(np.dtype(np.int32)), element_type(np.dtype(np.int64))
_TYPE_NAMES = {
    "FLOAT": 1,
    "INT32": 2,
    "BYTE": 3,
    "BOOL": 5,
    "UINT8": 6,
    "INT8": 7,
    "UINT16": 8,
    "INT16": 9,
    "INT64": 10,
    "FLOAT16": 12,
    "DOUBLE": 13,
}


def reshape(operator: Operator) -> Sequence[str]:
    """X in the shape of the argument or of the second input; and the shape that it had."""
    x = operator.input(0)
    if len(operator.inputs) > 1:
        shape = operator.add("Cast", operator.input(1), to=_INT64)
    else:
        sizes = list(operator.arguments.integers("shape"))
        shape = operator.graph.constant(np.array(sizes, np.int64), "shape")
    return [operator.add("Reshape", x, shape), operator.add("Shape", x)]


def flatten(operator: Operator) -> Sequence[str]:
    """A matrix of the dimensions before ``axis`` and those from it on."""
    return [operator.add("Flatten", operator.input(0), axis=operator.arguments.integer("axis", 1))]


def flatten_to_vector(operator: Operator) -> Sequence[str]:
    return [operator.add("Reshape", operator.input(0), operator.graph.constant([-1]))]


def transpose(operator: Operator) -> Sequence[str]:
    """By ``axes``; without them, in the reverse order."""
    axes = operator.arguments.integers("axes")
    return [operator.add("Transpose", operator.input(0), **({"perm": axes} if axes else {}))]


def to_channels_last(operator: Operator) -> Sequence[str]:
    rank = operator.graph.rank(operator.input(0))
    return [operator.add("Transpose", operator.input(0), perm=[0, *range(2, rank), 1])]


def to_channels_first(operator: Operator) -> Sequence[str]:
    rank = operator.graph.rank(operator.input(0))
    return [operator.add("Transpose", operator.input(0), perm=[0, rank - 1, *range(1, rank - 1)])]


def concatenate(operator: Operator) -> Sequence[str]:
    """All inputs, along a dimension or stacked on a new one; and the size of each there."""
    graph = operator.graph
    adds = operator.arguments.integer("add_axis", 0)
    rank = graph.rank(operator.input(0)) + (1 if adds else 0)
    axis = operator.axis(rank, _channel_axis(operator, rank))
    parts = list(operator.inputs)
    if adds:
        parts = [operator.add("Unsqueeze", part, axes=[axis]) for part in parts]
    index = graph.constant([axis], "axis")
    sizes = [operator.add("Gather", operator.add("Shape", part), index) for part in parts]
    split = operator.add("Cast", operator.add("Concat", *sizes, axis=0), to=_INT32)
    return [operator.add("Concat", *parts, axis=axis), split]


def split(operator: Operator) -> Sequence[str]:
    """Into parts of the sizes in ``split``, or of the same size."""
    x = operator.input(0)
    rank = operator.graph.rank(x)
    axis = operator.axis(rank, _channel_axis(operator, rank))
    sizes: Sequence[int] = operator.arguments.integers("split")
    if len(operator.inputs) > 1:
        weight = operator.graph.weight(operator.input(1))
        if weight is None:
            raise InvalidArgument("the sizes of its parts are not known before a run")
        sizes = [int(size) for size in weight.ravel()]
    attributes = {"split": sizes} if sizes else {}
    return operator.graph.add_node("Split", [x], operator.output_count, axis=axis, **attributes)


def _channel_axis(operator: Operator, rank: int) -> int:
    return rank - 1 if operator.channels_last else 1


def part(operator: Operator) -> Sequence[str]:
    """From ``starts`` up to ``ends``; -1 is behind the last, -2 the last itself."""
    graph = operator.graph
    bounds = []
    for index, name in enumerate(("starts", "ends"), 1):
        given = operator.arguments.integers(name)
        if index < len(operator.inputs):
            weight = graph.weight(operator.input(index))
            if weight is None:
                raise InvalidArgument(f"its {name} are not known before a run")
            given = tuple(int(each) for each in weight.ravel())
        bounds.append([each if each >= 0 else _from_the_end(each) for each in given])
    starts, ends = (graph.constant(np.array(each, np.int64), "bounds") for each in bounds)
    return [operator.add("Slice", operator.input(0), starts, ends)]


def _from_the_end(bound: int) -> int:
    """In ONNX, -1 is the last itself."""
    return _END if bound == -1 else bound + 1


def with_dimensions(operator: Operator) -> Sequence[str]:
    """New dimensions of size 1 at ``dims``."""
    dims = operator.arguments.integers("dims")
    return [operator.add("Unsqueeze", operator.input(0), axes=dims)]


def without_dimensions(operator: Operator) -> Sequence[str]:
    """The opposite."""
    return [operator.add("Squeeze", operator.input(0), axes=operator.arguments.integers("dims"))]


def shape(operator: Operator) -> Sequence[str]:
    """The sizes of all dimensions, or of those in ``axes``."""
    sizes = operator.add("Shape", operator.input(0))
    if axes := operator.arguments.integers("axes"):
        sizes = operator.add("Gather", sizes, operator.graph.constant(np.array(axes, np.int64)))
    return [sizes]


def cast(operator: Operator) -> Sequence[str]:
    """To an element type, by its number or name."""
    to = operator.arguments.of("to")
    name = to.s.decode("utf-8", "replace").upper()
    number = to.i if to.HasField("i") else _TYPE_NAMES.get(name, 0)
    if number not in DATA_TYPES:
        raise InvalidArgument(f"it casts to the type {name or number}, which is not supported")
    return [operator.add("Cast", operator.input(0), to=element_type(DATA_TYPES[number]))]


def gather(operator: Operator) -> Sequence[str]:
    """The rows of the first input whose numbers the second has."""
    axis = operator.arguments.integer("axis", 0)
    return [operator.add("Gather", operator.input(0), operator.input(1), axis=axis)]


def tile(operator: Operator) -> Sequence[str]:
    """``tiles`` times along ``axis``."""
    x = operator.input(0)
    rank = operator.graph.rank(x)
    repeats = [1] * rank
    repeats[operator.axis(rank, 0)] = operator.arguments.integer("tiles", 1)
    return [operator.add("Tile", x, operator.graph.constant(np.array(repeats, np.int64)))]


def pad_image(operator: Operator) -> Sequence[str]:
    """Pixels around an image, all of one value or copies."""
    image = channels_first(operator, operator.input(0))
    arguments = operator.arguments
    sides = [arguments.integer(f"pad_{side}", arguments.integer("pad", 0)) for side in "tlbr"]
    top, left, bottom, right = arguments.integers("pads") or sides
    pads = operator.graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    value = operator.graph.constant(np.float32(arguments.number("value", 0)))
    padded = operator.add("Pad", image, pads, value, mode=arguments.text("mode", "constant"))
    return [as_it_was(operator, padded)]


def resize_nearest(operator: Operator) -> Sequence[str]:
    """An image, larger or smaller by factors; each pixel is that of the image where it falls."""
    graph, arguments = operator.graph, operator.arguments
    height, width = (arguments.number(f"{side}_scale", 1) for side in ("height", "width"))
    scales = graph.constant(np.array([1, 1, height, width], np.float32), "scales")
    image = channels_first(operator, operator.input(0))
    resized = operator.add(
        "Resize",
        image,
        graph.constant(np.array([], np.float32), "roi"),
        scales,
        coordinate_transformation_mode="asymmetric",
        mode="nearest",
        nearest_mode="floor",
    )
    return [as_it_was(operator, resized)]


def shuffle_channels(operator: Operator) -> Sequence[str]:
    """Those of ``group`` groups, in turn."""
    image = channels_first(operator, operator.input(0))
    sizes = operator.graph.shape(image)
    group = operator.arguments.integer("group", 1)
    if sizes is None or len(sizes) != 4 or not sizes[1] or group < 1 or sizes[1] % group:
        raise InvalidArgument(f"its channels can not be shuffled in {group} groups")
    grouped = np.array([0, group, sizes[1] // group, -1], np.int64)
    apart = operator.add("Reshape", image, operator.graph.constant(grouped, "shape"))
    shuffled = operator.add("Transpose", apart, perm=[0, 2, 1, 3])
    return [as_it_was(operator, operator.graph.reshaped_like(shuffled, image))]


SHAPES: dict[str, Writer] = {
    "BatchGather": lambda operator: [operator.add("Gather", *operator.inputs, axis=1)],
    "Cast": cast,
    "ChannelShuffle": shuffle_channels,
    "Concat": concatenate,
    "DepthConcat": concatenate,
    "ExpandDims": with_dimensions,
    "Flatten": flatten,
    "FlattenToVec": flatten_to_vector,
    "Gather": gather,
    "NCHW2NHWC": to_channels_last,
    "NHWC2NCHW": to_channels_first,
    "PadImage": pad_image,
    "Reshape": reshape,
    "ResizeNearest": resize_nearest,
    "Shape": shape,
    "Slice": part,
    "Split": split,
    "Squeeze": without_dimensions,
    "Tile": tile,
    "Transpose": transpose,
}
"""Caffe2's names of operators, and what writes each down."""
