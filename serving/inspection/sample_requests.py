"""Sample requests: the bodies that REST and gRPC take for the same inputs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.rest.openapi_schemas import is_in_json
from serving.apis.tensorflow_serving.tensor_codec import encode_tensor
from serving.core.dtypes import DType, numpy_dtype
from serving.core.servable import DEFAULT_SIGNATURE, Signature
from serving.inspection.filled import Filled, as_json
from serving.inspection.sample_values import has_rows, inputs_to_try

_SERVICE: str = protos.PREDICTION_SERVICE_FILE.services_by_name["PredictionService"].full_name


class RestRequest(NamedTuple):
    """``body``: a document of JSON with :class:`Filled` in it, or arrays by alias for an ``.npz``.
    ``headers`` are those beside what every client sends.
    """

    path: str
    body: Any
    headers: Mapping[str, str] = {}

    @property
    def is_json(self) -> bool:
        return not self.headers

    def encoded(self) -> bytes:
        """The bytes of the body."""
        if self.is_json:
            return json.dumps(as_json(self.body)).encode()
        packed = io.BytesIO()
        np.savez(packed, **{alias: filled.array() for alias, filled in self.body.items()})
        return packed.getvalue()


class GrpcRequest(NamedTuple):
    """``method`` is its full path, with a slash before it."""

    method: str
    message: Message

    @property
    def document(self) -> Any:
        """The message as JSON."""
        return json_format.MessageToDict(self.message)


class Request(NamedTuple):
    """The same inputs for both APIs; ``rest`` is None where REST can not carry them."""

    rest: RestRequest | None
    grpc: GrpcRequest


def requests_to_try(model: str, name: str, signature: Signature) -> Iterator[Request]:
    """Requests for a signature, those first that most models answer.

    Raises InvalidArgument where none can be made.
    """
    for inputs in inputs_to_try(signature):
        grpc = _predict(model, name, inputs)
        for rest in _rest_requests(model, name, signature, inputs):
            yield Request(rest, grpc)


def _predict(model: str, name: str, inputs: Mapping[str, Filled]) -> GrpcRequest:
    """One value stands for all of a tensor, as TensorProtos may have it."""
    message = protos.PredictRequest()
    message.model_spec.name = model
    if name != DEFAULT_SIGNATURE:
        message.model_spec.signature_name = name
    for alias, filled in inputs.items():
        proto = message.inputs[alias]
        encode_tensor(filled.array((1,)), proto)
        del proto.tensor_shape.dim[:]
        proto.tensor_shape.SetInParent()
        for size in filled.shape:
            proto.tensor_shape.dim.add(size=size)
    return GrpcRequest(f"/{_SERVICE}/Predict", message)


def _rest_requests(
    model: str, name: str, signature: Signature, inputs: Mapping[str, Filled]
) -> Iterator[RestRequest | None]:
    path = f"/v1/models/{quote(model, safe='')}:predict"
    if is_in_json(signature):
        named = {} if name == DEFAULT_SIGNATURE else {"signature_name": name}
        if has_rows(signature):
            yield RestRequest(path, {**named, "instances": [_row(inputs)]})
        yield RestRequest(path, {**named, "inputs": dict(inputs)})
    elif all(_is_numpys(filled.dtype) for filled in inputs.values()):
        headers = {"content-type": "application/x-npz"}
        if name != DEFAULT_SIGNATURE:
            headers["x-signature-name"] = name
        yield RestRequest(path, dict(inputs), headers)
    else:
        yield None


def _row(inputs: Mapping[str, Filled]) -> Filled | dict[str, Filled]:
    rows = {alias: filled.row for alias, filled in inputs.items()}
    return rows if len(rows) > 1 else next(iter(rows.values()))


def _is_numpys(dtype: DType) -> bool:
    """Whether a file of numpy can hold it in a way that everybody reads."""
    return numpy_dtype(dtype).isbuiltin == 1 and dtype is not DType.STRING
