"""What a TensorFlow Lite file says of how to call it, as Signatures."""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from google.protobuf.message import DecodeError

from serving.core.bare_package import import_alone
from serving.core.dtypes import DType
from serving.core.errors import AlreadyExists, Internal, InvalidArgument
from serving.core.servable import DEFAULT_SIGNATURE, Signature, TensorInfo

# One process can hold one definition of a message: TensorFlow's, where that is installed.
if TYPE_CHECKING or not find_spec("tensorflow"):
    from serving.generated.tensorflow_framework_pb2 import SignatureDef
    from serving.generated.tensorflow_framework_pb2 import TensorInfo as TensorInfoProto
else:
    _messages = import_alone("tensorflow.core.protobuf.meta_graph_pb2")
    SignatureDef, TensorInfoProto = _messages.SignatureDef, _messages.TensorInfo

log = logging.getLogger(__name__)

_METADATA = b"signature_defs_metadata"
_UNREADABLE = (LookupError, TypeError, ValueError, struct.error)
"""What flatbuffers raise where offsets lead out of them."""
_PREDICT = "tensorflow/serving/predict"
_ELEMENT_TYPES = {
    schema.TensorType.FLOAT32: DType.FLOAT,
    schema.TensorType.FLOAT64: DType.DOUBLE,
    schema.TensorType.FLOAT16: DType.HALF,
    schema.TensorType.INT8: DType.INT8,
    schema.TensorType.INT16: DType.INT16,
    schema.TensorType.INT32: DType.INT32,
    schema.TensorType.INT64: DType.INT64,
    schema.TensorType.UINT8: DType.UINT8,
    schema.TensorType.UINT16: DType.UINT16,
    schema.TensorType.UINT32: DType.UINT32,
    schema.TensorType.UINT64: DType.UINT64,
    schema.TensorType.BOOL: DType.BOOL,
    schema.TensorType.STRING: DType.STRING,
    schema.TensorType.COMPLEX64: DType.COMPLEX64,
    schema.TensorType.COMPLEX128: DType.COMPLEX128,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file; ``handle`` is what the interpreter calls it.

    That is its index in the main graph, or its alias where an :class:`Entry` has a ``signature``.
    """

    handle: int | str
    info: TensorInfo


@dataclass(frozen=True, slots=True)
class Entry:
    """A graph that a run computes, and what it takes and gives, by the names in the Signatures.

    ``signature`` names the one in the file that leads to the graph; None for the main graph.
    """

    signature: str | None
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TfLiteSignatures:
    """The ways to call a file, by name, and the graphs behind them.

    ``has_loops``: whether a run may take long however small its inputs are.
    """

    signatures: Mapping[str, Signature]
    entries: Sequence[Entry]
    has_loops: bool


def read_signatures(content: bytes) -> TfLiteSignatures:
    """The signatures of a file that the interpreter has verified.

    They are those of the metadata buffer that TensorFlow Serving reads; else those that today's
    converter writes; else a generated one with every input and output of the main graph. Raises
    Internal, with TensorFlow Serving's text, for a signature of tensors that are not in the file,
    and InvalidArgument for metadata that does not parse or a type that is not supported.
    """
    try:
        return _read(schema.Model.GetRootAs(content, 0))
    except (AttributeError, *_UNREADABLE) as error:
        # The interpreter verifies what it uses, and indices are no part of that.
        raise InvalidArgument(f"the model's signatures can not be read: {error}") from error


def _read(model: Any) -> TfLiteSignatures:
    definitions = _definitions(model)
    own = [model.SignatureDefs(index) for index in range(model.SignatureDefsLength())]
    if own and not definitions and any(each.SubgraphIndex() for each in own):
        return _of_several_graphs(model, own)
    main = _main_graph(model.Subgraphs(0))
    if definitions:
        signatures = {name: _defined(each, main) for name, each in definitions.items()}
    elif own:
        signatures = {_text(each.SignatureKey()): _listed(each, main) for each in own}
    else:
        log.warning("No signature def found in TFLite model. Generating one.")
        signatures = {DEFAULT_SIGNATURE: _generated(main)}
    return TfLiteSignatures(dict(sorted(signatures.items())), [main], _has_loops(model))


def _definitions(model: Any) -> dict[str, SignatureDef]:
    """The map from names to SignatureDefs in the metadata; empty where there is none."""
    for index in range(model.MetadataLength()):
        metadata = model.Metadata(index)
        if metadata.Name() == _METADATA:
            buffer = model.Buffers(metadata.Buffer())
            if buffer.DataLength():
                return _parsed(buffer.DataAsNumpy().tobytes())
    return {}


def _parsed(buffer: bytes) -> dict[str, SignatureDef]:
    try:
        values = flexbuffers.GetRoot(buffer).AsMap
        return {
            key.AsKey: SignatureDef.FromString(values[key.AsKey].AsStringBytes)
            for key in values.Keys
        }
    except (DecodeError, *_UNREADABLE) as error:
        raise InvalidArgument(f"Invalid SignatureDefs found in TfLite model: {error}") from error


def _main_graph(graph: Any) -> Entry:
    inputs = {index: graph.Tensors(index) for index in graph.InputsAsNumpy()}
    outputs = {index: graph.Tensors(index) for index in graph.OutputsAsNumpy()}
    return Entry(None, _by_name("Input", inputs), _by_name("Output", outputs))


def _by_name(role: str, tensors: Mapping[int, Any]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for index, tensor in tensors.items():
        name = _text(tensor.Name())
        if name in found:
            raise AlreadyExists(f"{role} tensor name: {name} has multiple indices")
        found[name] = Tensor(int(index), _info(name, tensor))
    return found


def _defined(definition: SignatureDef, main: Entry) -> Signature:
    """A SignatureDef whose tensors may be called as in the graph that was converted."""
    inputs = _named("input", definition.inputs, main.inputs)
    outputs = _named("output", definition.outputs, main.outputs)
    return Signature(
        inputs,
        outputs,
        definition.method_name,
        encoded=definition.SerializeToString(deterministic=True),
    )


def _named(
    role: str, infos: Mapping[str, TensorInfoProto], tensors: Mapping[str, Tensor]
) -> dict[str, TensorInfo]:
    """By alias; the infos get the names that the file has."""
    found = {}
    for alias, info in sorted(infos.items()):
        base = info.name.partition(":")[0]
        names = [name for name in (info.name, base, f"{base}:0") if name in tensors]
        if not names:
            raise Internal(
                f"Unknown tensor '{info.name}'.\n\tSignature {role} {alias} references an unknown "
                "tensor"
            )
        info.name = names[0]
        found[alias] = tensors[info.name].info
    return found


def _listed(signature: Any, main: Entry) -> Signature:
    """A signature that the file's own list has, all of whose graphs are the main one."""
    inputs = {tensor.handle: tensor.info for tensor in main.inputs.values()}
    outputs = {tensor.handle: tensor.info for tensor in main.outputs.values()}
    try:
        return Signature(
            {alias: inputs[index] for alias, index in _aliases(signature, "Inputs")},
            {alias: outputs[index] for alias, index in _aliases(signature, "Outputs")},
            _PREDICT,
        )
    except KeyError as error:
        raise Internal(f"Unknown tensor '{error}'.") from None


def _generated(main: Entry) -> Signature:
    def aliases(tensors: Mapping[str, Tensor]) -> dict[str, TensorInfo]:
        return {name.removesuffix(":0"): tensor.info for name, tensor in sorted(tensors.items())}

    return Signature(aliases(main.inputs), aliases(main.outputs), _PREDICT)


def _of_several_graphs(model: Any, own: Sequence[Any]) -> TfLiteSignatures:
    """Graphs may call tensors alike, so these are called by signature and alias."""
    entries = {}
    for signature in own:
        key = _text(signature.SignatureKey())
        graph = model.Subgraphs(signature.SubgraphIndex())
        sides = [
            {
                f"{key}/{alias}": Tensor(alias, _info(f"{key}/{alias}", graph.Tensors(index)))
                for alias, index in _aliases(signature, side)
            }
            for side in ("Inputs", "Outputs")
        ]
        entries[key] = Entry(key, *sides)
    signatures = {
        key: Signature(
            {str(tensor.handle): tensor.info for tensor in entry.inputs.values()},
            {str(tensor.handle): tensor.info for tensor in entry.outputs.values()},
            _PREDICT,
        )
        for key, entry in sorted(entries.items())
    }
    return TfLiteSignatures(signatures, list(entries.values()), _has_loops(model))


def _aliases(signature: Any, side: str) -> list[tuple[str, int]]:
    """Alias and index of the tensors on one side of a signature in the file's list."""
    count = getattr(signature, f"{side}Length")()
    tensors = [getattr(signature, side)(position) for position in range(count)]
    return sorted((_text(tensor.Name()), tensor.TensorIndex()) for tensor in tensors)


def _has_loops(model: Any) -> bool:
    codes = [model.OperatorCodes(index) for index in range(model.OperatorCodesLength())]
    return any(code.BuiltinCode() == schema.BuiltinOperator.WHILE for code in codes)


def _info(name: str, tensor: Any) -> TensorInfo:
    dtype = _ELEMENT_TYPES.get(tensor.Type())
    if dtype is None:
        raise InvalidArgument(f"tensor '{name}' has element type {tensor.Type()}, not supported")
    if tensor.ShapeSignatureLength():
        sizes = [tensor.ShapeSignature(axis) for axis in range(tensor.ShapeSignatureLength())]
    else:
        sizes = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
    return TensorInfo(name, dtype, tuple(None if size < 0 else int(size) for size in sizes))


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "replace")
