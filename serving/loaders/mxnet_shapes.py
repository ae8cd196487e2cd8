"""Operators that arrange elements in another shape or order, and compute nothing of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_attributes import Attributes
from serving.loaders.mxnet_operator import Operation, Operator, axis_of, cast, integers, scalar
from serving.loaders.mxnet_reshape import reshaped
from serving.loaders.onnx_builder import GraphBuilder

_MOST_PARTS = 1000  # each is an output by itself: more would only take time


def _reshape(op: Operation) -> str:
    codes = op.attributes.integers("shape")
    from_behind = op.attributes.flag("reverse")
    if not codes:  # files of the first versions
        codes = op.attributes.integers("target_shape")
        if op.attributes.flag("keep_highest"):
            codes = (0, *codes[1:])
        else:
            codes = tuple(-1 if size == 0 else size for size in codes)
    if not codes:
        raise InvalidArgument("it has no shape")
    return reshaped(op.graph, op.inputs[0], codes, from_behind=from_behind)


def _flatten(op: Operation) -> str:
    return op.graph.add("Flatten", op.inputs[0], axis=1)


def _reshape_like(op: Operation) -> str:
    if any(end in op.attributes for end in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")):
        raise InvalidArgument("it can not be served for some of the dimensions")
    return op.graph.reshaped_like(op.inputs[0], op.inputs[1])


def _transpose(op: Operation) -> str:
    axes = op.attributes.integers("axes")
    if not axes:
        return op.graph.add("Transpose", op.inputs[0])
    return op.graph.add("Transpose", op.inputs[0], perm=axes)


def _swap_axes(op: Operation) -> str:
    order = list(range(op.graph.rank(op.inputs[0])))
    one, other = (
        axis_of(op.graph, op.inputs[0], op.attributes.integer(name, 0)) for name in ("dim1", "dim2")
    )
    if max(one, other) >= len(order):
        raise InvalidArgument(f"its input has {len(order)} dimensions")
    order[one], order[other] = order[other], order[one]
    return op.graph.add("Transpose", op.inputs[0], perm=order)


def _expand_dims(op: Operation) -> str:
    return op.graph.add("Unsqueeze", op.inputs[0], axes=[op.attributes.required_integer("axis")])


def _squeeze(op: Operation) -> str:
    axes = op.attributes.integers("axis")
    return op.graph.add("Squeeze", op.inputs[0], **({"axes": axes} if axes else {}))


def _concat(op: Operation) -> str:
    return op.graph.add("Concat", *op.inputs, axis=op.attributes.integer("dim", 1))


def _stack(op: Operation) -> str:
    axis = op.attributes.integer("axis", 0)
    if axis < 0:
        axis += op.graph.rank(op.inputs[0]) + 1
    return op.graph.add(
        "Concat", *(op.graph.add("Unsqueeze", each, axes=[axis]) for each in op.inputs), axis=axis
    )


def _split(op: Operation) -> list[str]:
    axis = op.attributes.integer("axis", 1)
    parts = _parts(op, "num_outputs", axis)
    return _squeezed(op.graph, op.attributes, parts, axis)


def _split_at(op: Operation) -> list[str]:
    axis = op.attributes.integer("axis", 1)
    if op.attributes.integer("sections", 0) != 0:
        parts = _parts(op, "sections", axis)
        return _squeezed(op.graph, op.attributes, parts, axis)
    begins = op.attributes.integers("indices", (0,))
    ends = [*begins[1:], np.iinfo(np.int64).max]
    parts = [
        _sliced(op.graph, op.inputs[0], [begin], [end], axes=[axis])
        for begin, end in zip(begins, ends, strict=True)
    ]
    return _squeezed(op.graph, op.attributes, parts, axis)


def _parts(op: Operation, attribute: str, axis: int) -> list[str]:
    """As many equal parts as the attribute says."""
    count = op.attributes.required_integer(attribute)
    if not 1 <= count <= _MOST_PARTS:
        raise InvalidArgument(f"its attribute {attribute} can not be {count}")
    return op.graph.add_node("Split", [op.inputs[0]], count, axis=axis)


def _squeezed(
    graph: GraphBuilder, attributes: Attributes, parts: Sequence[str], axis: int
) -> list[str]:
    if not attributes.flag("squeeze_axis"):
        return list(parts)
    return [graph.add("Squeeze", part, axes=[axis]) for part in parts]


def _slice(op: Operation) -> str:
    begins = op.attributes.optional_integers("begin")
    ends = op.attributes.optional_integers("end")
    steps = op.attributes.optional_integers("step") or (None,) * len(begins)
    if not len(begins) == len(ends) == len(steps):
        raise InvalidArgument("its begin, end and step are of different lengths")
    limits = np.iinfo(np.int64)
    counts = [1 if step is None else step for step in steps]
    return _sliced(
        op.graph,
        op.inputs[0],
        [
            (0 if step > 0 else limits.max) if begin is None else begin
            for begin, step in zip(begins, counts, strict=True)
        ],
        [
            (limits.max if step > 0 else limits.min) if end is None else end
            for end, step in zip(ends, counts, strict=True)
        ],
        axes=range(len(begins)),
        steps=counts,
    )


def _slice_axis(op: Operation) -> str:
    end = (
        op.attributes.required_integer("end")
        if "end" in op.attributes
        else int(np.iinfo(np.int64).max)
    )
    axis = op.attributes.required_integer("axis")
    return _sliced(op.graph, op.inputs[0], [op.attributes.integer("begin", 0)], [end], axes=[axis])


def _sliced(
    graph: GraphBuilder,
    data: str,
    begins: Sequence[int],
    ends: Sequence[int],
    *,
    axes: Sequence[int],
    steps: Sequence[int] = (),
) -> str:
    lists = [begins, ends, axes, *([steps] if steps else [])]
    return graph.add("Slice", data, *(integers(graph, each) for each in lists))


def _slice_like(op: Operation) -> str:
    axes = op.attributes.integers("axes") or tuple(range(op.graph.rank(op.inputs[1])))
    places = integers(op.graph, [axis_of(op.graph, op.inputs[1], axis) for axis in axes])
    ends = op.graph.add("Gather", op.graph.add("Shape", op.inputs[1]), places, axis=0)
    begins = integers(op.graph, [0] * len(axes))
    return op.graph.add("Slice", op.inputs[0], begins, ends, integers(op.graph, axes))


def _crop(op: Operation) -> str:
    """Of pictures, to the size that is given or that the second input has."""
    down, right = op.attributes.integers("offset", (0, 0))[:2]
    if op.attributes.flag("center_crop"):
        raise InvalidArgument("its attribute center_crop can not be served")
    begins, axes = integers(op.graph, [down, right]), integers(op.graph, [2, 3])
    if len(op.inputs) == 1:
        height, width = op.attributes.integers("h_w", (0, 0))[:2]
        ends = integers(op.graph, [down + height, right + width])
    else:
        size = op.graph.add("Gather", op.graph.add("Shape", op.inputs[1]), axes, axis=0)
        ends = op.graph.add("Add", size, begins)
    return op.graph.add("Slice", op.inputs[0], begins, ends, axes)


def _tile(op: Operation) -> str:
    times = op.attributes.integers("reps")
    missing = op.graph.rank(op.inputs[0]) - len(times)
    data = op.inputs[0]
    if missing < 0:
        data = op.graph.add("Unsqueeze", data, axes=list(range(-missing)))
    return op.graph.add("Tile", data, integers(op.graph, [1] * missing + list(times)))


def _repeat(op: Operation) -> str:
    times = op.attributes.required_integer("repeats")
    data = op.inputs[0]
    if "axis" in op.attributes:
        axis = axis_of(op.graph, data, op.attributes.required_integer("axis"))
    else:
        data, axis = op.graph.add("Reshape", data, integers(op.graph, [-1])), 0
    rank = op.graph.rank(data)
    each = op.graph.add("Unsqueeze", data, axes=[axis + 1])
    counts = [times if index == axis + 1 else 1 for index in range(rank + 1)]
    repeated = op.graph.add("Tile", each, integers(op.graph, counts))
    codes = [*[0] * axis, -3, *[-2] * (axis + 1 < rank)]
    return reshaped(op.graph, repeated, codes, from_behind=False)


def _reverse(op: Operation) -> str:
    axes = op.attributes.integers("axis")
    count, limits = len(axes), np.iinfo(np.int64)
    return _sliced(
        op.graph, op.inputs[0], [-1] * count, [limits.min] * count, axes=axes, steps=[-1] * count
    )


def _broadcast_to(op: Operation) -> str:
    """A size of 0 leaves a dimension as it is."""
    sizes = [size or 1 for size in op.attributes.integers("shape")]
    return op.graph.add("Expand", op.inputs[0], integers(op.graph, sizes))


def _broadcast_axis(op: Operation) -> str:
    sizes = [1] * op.graph.rank(op.inputs[0])
    for axis, size in zip(
        op.attributes.integers("axis"), op.attributes.integers("size"), strict=False
    ):
        sizes[axis] = size
    return op.graph.add("Expand", op.inputs[0], integers(op.graph, sizes))


def _broadcast_like(op: Operation) -> str:
    if "lhs_axes" in op.attributes or "rhs_axes" in op.attributes:
        raise InvalidArgument("it can not be served for some of the dimensions")
    return op.graph.add("Expand", op.inputs[0], op.graph.add("Shape", op.inputs[1]))


def _depth_to_space(op: Operation) -> str:
    return op.graph.add(
        "DepthToSpace",
        op.inputs[0],
        blocksize=op.attributes.required_integer("block_size"),
        mode="DCR",
    )


def _space_to_depth(op: Operation) -> str:
    return op.graph.add(
        "SpaceToDepth", op.inputs[0], blocksize=op.attributes.required_integer("block_size")
    )


def _pad(op: Operation) -> str:
    """Before and behind each dimension by turns, where ONNX has all that is before first."""
    widths = op.attributes.integers("pad_width")
    mode = op.attributes.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect"):
        raise InvalidArgument(f"its attribute mode can not be {mode!r}")
    value = scalar(op.graph, op.inputs[0], op.attributes.number("constant_value", 0))
    pads = integers(op.graph, [*widths[::2], *widths[1::2]])
    return op.graph.add("Pad", op.inputs[0], pads, value, mode=mode)


def _shape_array(op: Operation) -> str:
    return op.graph.add("Shape", op.inputs[0])


def _size_array(op: Operation) -> str:
    size = op.graph.add("Size", op.inputs[0])
    return op.graph.add("Reshape", cast(op.graph, size, np.int64), integers(op.graph, [1]))


SHAPES: Mapping[str, Operator] = {
    "Concat": _concat,
    "Crop": _crop,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "SliceChannel": _split,
    "SwapAxis": _swap_axes,
    "_split_v2": _split_at,
    "broadcast_axes": _broadcast_axis,
    "broadcast_axis": _broadcast_axis,
    "broadcast_like": _broadcast_like,
    "broadcast_to": _broadcast_to,
    "concat": _concat,
    "crop": _slice,
    "depth_to_space": _depth_to_space,
    "expand_dims": _expand_dims,
    "flatten": _flatten,
    "flip": _reverse,
    "pad": _pad,
    "repeat": _repeat,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "reverse": _reverse,
    "shape_array": _shape_array,
    "size_array": _size_array,
    "slice": _slice,
    "slice_axis": _slice_axis,
    "slice_like": _slice_like,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "swapaxes": _swap_axes,
    "tile": _tile,
    "transpose": _transpose,
}
