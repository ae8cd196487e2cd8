"""Predict over REST: a JSON document in, in rows or in columns, and the same way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.json_document import JsonObject, quote, signature_name
from serving.apis.tensorflow_serving.rest.json_tensor import arrays_from_columns, arrays_from_rows
from serving.apis.tensorflow_serving.rest.verb import Answer
from serving.core.errors import InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, RunOptions, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.inference import predict as inference

_Writer = Callable[[Mapping[str, np.ndarray]], bytes]


def predict(
    handle: ServableHandle,
    document: JsonObject,
    options: RunOptions,
    answer: Answer,
    *,
    check_method_name: bool,
) -> None:
    """Run the signature that the document names, and answer in the format it was asked in."""
    name = signature_name(document)
    inputs, write = _read(document, _inputs_of(handle, name))

    def done(result: inference.PredictResult | ServingError) -> None:
        if isinstance(result, ServingError):
            answer(result)
        else:
            answer(lambda: write(result.outputs))

    request = inference.PredictRequest(name, inputs)
    inference.predict(handle, request, options, done, check_method_name=check_method_name)


def _inputs_of(handle: ServableHandle, name: str) -> Mapping[str, TensorInfo]:
    signature = handle.servable.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise InvalidArgument(
            f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
        )
    if not signature.inputs:
        raise InvalidArgument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return signature.inputs


def _read(
    document: JsonObject, inputs: Mapping[str, TensorInfo]
) -> tuple[Mapping[str, np.ndarray], _Writer]:
    """The arrays of the request, and what writes the outputs in the same format."""
    if "instances" in document and "inputs" in document:
        raise InvalidArgument(
            f"JSON Value: {quote(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if "inputs" in document:
        return arrays_from_columns(document["inputs"], inputs), json_writer.outputs
    if "instances" not in document:
        raise InvalidArgument("Missing 'inputs' or 'instances' key")
    instances = document["instances"]
    if not isinstance(instances, list):
        raise InvalidArgument(
            f"JSON Value: {quote(document)} Expecting 'instances' to be an list/array"
        )
    if not instances:
        raise InvalidArgument(f"JSON Value: {quote(document)} No values in 'instances' array")
    return arrays_from_rows(instances, inputs), json_writer.predictions
