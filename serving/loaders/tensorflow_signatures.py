"""SignatureDefs, TensorFlow's description of how to call a graph, as Signatures."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo as TensorInfoProto

from serving.core.errors import InvalidArgument
from serving.core.servable import Signature, TensorInfo
from serving.loaders.tensorflow_step import element_type


def signatures_of(definitions: Mapping[str, SignatureDef]) -> dict[str, Signature]:
    """Every signature, by name; names and aliases in sorted order.

    Raises InvalidArgument naming the signature and alias whose element type is not supported.
    """
    signatures = {}
    for name, definition in sorted(definitions.items()):
        try:
            signatures[name] = signature_of(definition)
        except InvalidArgument as error:
            raise InvalidArgument(f"signature {name!r}: {error.message}") from None
    return signatures


def signature_of(definition: SignatureDef) -> Signature:
    """One signature, with its serialized definition. Raises InvalidArgument naming an alias."""
    return Signature(
        inputs=_tensors(definition.inputs),
        outputs=_tensors(definition.outputs),
        method_name=definition.method_name,
        defaults={
            alias: tf.make_ndarray(value) for alias, value in sorted(definition.defaults.items())
        },
        encoded=definition.SerializeToString(deterministic=True),
    )


def _tensors(infos: Mapping[str, TensorInfoProto]) -> dict[str, TensorInfo]:
    # The entry of __saved_model_init_op names an operation; it has no type because it is no tensor.
    tensors = {}
    for alias, info in sorted(infos.items()):
        if info.dtype != types_pb2.DT_INVALID:
            tensors[alias] = _tensor(alias, info)
    return tensors


def _tensor(alias: str, info: TensorInfoProto) -> TensorInfo:
    try:
        dtype = element_type(tf.as_dtype(info.dtype))
    except (TypeError, InvalidArgument):
        raise InvalidArgument(
            f"{alias!r} has element type {info.dtype}, which is not supported"
        ) from None
    return TensorInfo(name=info.name, dtype=dtype, shape=_shape(info.tensor_shape))


def _shape(shape: TensorShapeProto) -> tuple[int | None, ...] | None:
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)
