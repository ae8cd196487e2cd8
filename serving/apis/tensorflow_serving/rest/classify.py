"""Classify and Regress over REST: examples as JSON objects in, ``results`` out."""

from __future__ import annotations

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.json_document import JsonObject, signature_name
from serving.apis.tensorflow_serving.rest.json_example import serialized_examples
from serving.apis.tensorflow_serving.rest.verb import Answer
from serving.core.errors import ServingError
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.inference import classify as classification
from serving.inference import regress as regression


def classify(
    handle: ServableHandle,
    document: JsonObject,
    options: RunOptions,
    answer: Answer,
    *,
    check_method_name: bool,
) -> None:
    """Answer with a list of ``[label, score]`` for each example."""

    def done(result: classification.ClassifyResult | ServingError) -> None:
        if isinstance(result, ServingError):
            answer(result)
        else:
            answer(lambda: json_writer.classifications(result.classes, result.scores))

    name = signature_name(document)
    examples = serialized_examples(document)
    classification.classify(
        handle, name, examples, options, done, check_method_name=check_method_name
    )


def regress(
    handle: ServableHandle,
    document: JsonObject,
    options: RunOptions,
    answer: Answer,
    *,
    check_method_name: bool,
) -> None:
    """Answer with one number for each example."""

    def done(result: regression.RegressResult | ServingError) -> None:
        if isinstance(result, ServingError):
            answer(result)
        else:
            answer(lambda: json_writer.regressions(result.values))

    name = signature_name(document)
    examples = serialized_examples(document)
    regression.regress(handle, name, examples, options, done, check_method_name=check_method_name)
