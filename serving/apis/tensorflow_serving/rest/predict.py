"""Predict over REST: a JSON document in, in rows or in columns, and the same way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.json_document import JsonObject, quote, signature_name
from serving.apis.tensorflow_serving.rest.json_tensor import arrays_from_columns, arrays_from_rows
from serving.apis.tensorflow_serving.rest.logged_calls import logged_predict
from serving.apis.tensorflow_serving.rest.verb import Answer, Content, Writing
from serving.core.errors import InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, RunOptions, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.inference import predict as inference

_MANY = 1024
_BYTES_LIKE_A_NUMBER = 16

Writer = Callable[[Mapping[str, np.ndarray]], Content]
"""Makes a response's body from the outputs by alias. May raise a ServingError."""


def predict(
    handle: ServableHandle,
    document: JsonObject,
    options: RunOptions,
    answer: Answer,
    *,
    check_method_name: bool,
    write: Writer | None = None,
) -> None:
    """Run the signature that the document names, and answer in the format it was asked in.

    ``write``, where there is one, makes the answer instead.
    """
    name = signature_name(document)
    inputs, write_alike = _read(document, inputs_of(handle, name))
    run(
        handle,
        inference.PredictRequest(name, inputs),
        options,
        answer,
        write=write or write_alike,
        check_method_name=check_method_name,
    )


def run(
    handle: ServableHandle,
    request: inference.PredictRequest,
    options: RunOptions,
    answer: Answer,
    *,
    write: Writer,
    check_method_name: bool,
) -> None:
    """Predict, and answer with what ``write`` makes of the outputs."""

    def done(result: inference.PredictResult | ServingError) -> None:
        if isinstance(result, ServingError):
            answer(result)
        else:
            outputs = result.outputs
            amount = sum(map(_amount, outputs.values()))
            logged = partial(logged_predict, request.inputs, result)
            answer(Writing(lambda: write(outputs), amount, logged))

    inference.predict(handle, request, options, done, check_method_name=check_method_name)


def _amount(array: np.ndarray) -> int:
    """How much there is to write; a few strings may be long ones."""
    if array.dtype != np.object_ or array.size > _MANY:
        return array.size
    return array.size + sum(map(len, array.ravel().tolist())) // _BYTES_LIKE_A_NUMBER


def inputs_of(handle: ServableHandle, name: str) -> Mapping[str, TensorInfo]:
    """The inputs of a signature; raises InvalidArgument where there is none with this name."""
    signature = handle.servable.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise InvalidArgument(
            f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
        )
    if not signature.inputs:
        raise InvalidArgument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return signature.inputs


def _predictions(outputs: Mapping[str, np.ndarray]) -> Content:
    return Content(json_writer.predictions(outputs))


def _outputs(outputs: Mapping[str, np.ndarray]) -> Content:
    return Content(json_writer.outputs(outputs))


def _read(
    document: JsonObject, inputs: Mapping[str, TensorInfo]
) -> tuple[Mapping[str, np.ndarray], Writer]:
    """The arrays of the request, and what writes the outputs in the same format."""
    if "instances" in document and "inputs" in document:
        raise InvalidArgument(
            f"JSON Value: {quote(document)} Not formatted correctly expecting only one of "
            "'inputs' or 'instances' keys to exist "
        )
    if "inputs" in document:
        return arrays_from_columns(document["inputs"], inputs), _outputs
    if "instances" not in document:
        raise InvalidArgument("Missing 'inputs' or 'instances' key")
    instances = document["instances"]
    if not isinstance(instances, list):
        raise InvalidArgument(
            f"JSON Value: {quote(document)} Expecting 'instances' to be an list/array"
        )
    if not instances:
        raise InvalidArgument(f"JSON Value: {quote(document)} No values in 'instances' array")
    return arrays_from_rows(instances, inputs), _predictions
