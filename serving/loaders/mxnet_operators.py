"""All operators of MXNet that can be written as ONNX."""

from __future__ import annotations

from collections.abc import Mapping

from serving.loaders.mxnet_elementwise import ELEMENTWISE
from serving.loaders.mxnet_layers import LAYERS
from serving.loaders.mxnet_normalization import NORMALIZATION
from serving.loaders.mxnet_operator import Operator
from serving.loaders.mxnet_outputs import OUTPUTS
from serving.loaders.mxnet_reductions import REDUCTIONS
from serving.loaders.mxnet_selection import SELECTION
from serving.loaders.mxnet_shapes import SHAPES

OPERATORS: Mapping[str, Operator] = {
    **ELEMENTWISE,
    **LAYERS,
    **NORMALIZATION,
    **OUTPUTS,
    **REDUCTIONS,
    **SELECTION,
    **SHAPES,
}
"""By the names that symbols have them under, old ones included."""
