"""Caffe2's operators that move a window over an image: convolutions and pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.core.errors import InvalidArgument
from serving.loaders.caffe2_operator import Operator, as_it_was, channels_first
from serving.loaders.onnx_builder import Shape

_NOTSET, _VALID, _SAME, _CAFFE_POOLING = range(4)
"""The values of ``legacy_pad``."""


def convolution(operator: Operator) -> Sequence[str]:
    """X, the filter, and a bias where there is one."""
    attributes = _window(operator) | {"group": operator.arguments.integer("group", 1)}
    if "ceil_mode" in attributes:
        raise InvalidArgument("legacy_pad 3 is for pooling")
    return _convolved(operator, "Conv", attributes)


def transposed_convolution(operator: Operator) -> Sequence[str]:
    """As above; ``adj`` more pixels at the ends."""
    attributes = _window(operator) | {"group": operator.arguments.integer("group", 1)}
    if "pads" not in attributes or "ceil_mode" in attributes:
        raise InvalidArgument("legacy_pad is not supported here")
    dimensions = len(attributes["kernel_shape"])
    attributes["output_padding"] = _sizes(operator, "adj", "hw", dimensions, 0)
    return _convolved(operator, "ConvTranspose", attributes)


def max_pool(operator: Operator) -> Sequence[str]:
    """The largest of each window; pixels that pad an image do not count."""
    return _pooled(operator, "MaxPool", {})


def average_pool(operator: Operator) -> Sequence[str]:
    """The mean of each window, of its pixels within the image unless it is said otherwise."""
    including = operator.arguments.integer("count_include_pad", 0)
    attributes = {} if _is_global(operator) else {"count_include_pad": including}
    return _pooled(operator, "AveragePool", attributes)


def _convolved(operator: Operator, op_type: str, attributes: Mapping[str, Any]) -> Sequence[str]:
    image = channels_first(operator, operator.input(0))
    weights = channels_first(operator, operator.input(1))
    convolved = operator.add(op_type, image, weights, *operator.inputs[2:3], **attributes)
    return [as_it_was(operator, convolved)]


def _pooled(operator: Operator, op_type: str, attributes: Mapping[str, Any]) -> Sequence[str]:
    image = channels_first(operator, operator.input(0))
    if _is_global(operator):
        pooled = operator.add(f"Global{op_type}", image)
    else:
        window = _window(operator)
        if window.get("dilations") and op_type == "AveragePool":
            if set(window["dilations"]) != {1}:
                raise InvalidArgument("windows with gaps are not supported here")
            del window["dilations"]
        pooled = operator.add(op_type, image, **window, **attributes)
        if "ceil_mode" in window:
            operator.graph.has_shape(pooled, _caffe_shape(operator.graph.shape(image), window))
    return [as_it_was(operator, pooled)]


def _caffe_shape(shape: Shape | None, window: Mapping[str, Any]) -> Shape | None:
    """The shape of an image pooled as in Caffe: a window that would begin behind it is left out."""
    if shape is None:
        return None
    settings = zip(
        shape[2:], window["kernel_shape"], window["strides"], window["pads"], strict=False
    )
    pooled: list[int | None] = []
    for size, kernel, stride, pad in settings:
        if size is None:
            pooled.append(None)
            continue
        count = -(-(size + 2 * pad - kernel) // stride) + 1
        pooled.append(count - 1 if pad > 0 and (count - 1) * stride >= size + pad else count)
    return (*shape[:2], *pooled)


def _is_global(operator: Operator) -> bool:
    return operator.arguments.integer("global_pooling", 0) != 0


def _window(operator: Operator) -> dict[str, Any]:
    """The attributes of ONNX for the window, its steps and what is around the image."""
    kernel = _sizes(operator, "kernel", "hw", 2, 0)
    dimensions = len(kernel)
    if min(kernel) < 1:
        raise InvalidArgument(f"it needs a window, and has {list(kernel)}")
    window: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": _sizes(operator, "stride", "hw", dimensions, 1),
        "dilations": _sizes(operator, "dilation", "hw", dimensions, 1),
    }
    return window | _padding(operator, dimensions)


def _padding(operator: Operator, dimensions: int) -> dict[str, Any]:
    legacy = operator.arguments.integer("legacy_pad", _NOTSET)
    if legacy == _VALID:
        return {"auto_pad": "VALID"}
    if legacy == _SAME:
        return {"auto_pad": "SAME_UPPER"}  # the odd pixel goes to the end
    pads = _sizes(operator, "pad", "tlbr", 2 * dimensions, 0)
    if legacy == _NOTSET:
        return {"pads": pads}
    if legacy == _CAFFE_POOLING:
        # Only those at the front count, and a window may be cut off at the end.
        return {"pads": [*pads[:dimensions], *pads[:dimensions]], "ceil_mode": 1}
    raise InvalidArgument(f"there is no legacy_pad {legacy}")


def _sizes(operator: Operator, one: str, letters: str, count: int, default: int) -> Sequence[int]:
    """``kernel`` for all dimensions, ``kernel_h`` and ``kernel_w``, or ``kernels`` of each."""
    arguments = operator.arguments
    if one in arguments:
        sizes: Sequence[int] = [arguments.integer(one, default)] * count
    elif all(f"{one}_{letter}" in arguments for letter in letters):
        sizes = [arguments.integer(f"{one}_{letter}", default) for letter in letters]
    else:
        sizes = arguments.integers(f"{one}s") or [default] * count
    if any(size < 0 for size in sizes) or (one != "kernel" and len(sizes) != count):
        raise InvalidArgument(f"{one} can not be {list(sizes)} with a window of this rank")
    return sizes
