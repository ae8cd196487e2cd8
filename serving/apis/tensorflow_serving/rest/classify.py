"""Classify and Regress over REST: examples as JSON objects in, ``results`` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.json_document import JsonObject, signature_name
from serving.apis.tensorflow_serving.rest.json_example import serialized_examples
from serving.apis.tensorflow_serving.rest.logged_calls import logged_classify, logged_regress
from serving.apis.tensorflow_serving.rest.verb import Answer, Content, Verb, Writing
from serving.core.errors import ServingError
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.inference import classify as classification
from serving.inference import regress as regression


def _classified(examples: Sequence[bytes], result: classification.ClassifyResult) -> Writing:
    parts = [part for part in (result.classes, result.scores) if part is not None]
    return Writing(
        lambda: Content(json_writer.classifications(result.classes, result.scores)),
        sum(part.size for part in parts),
        partial(logged_classify, examples, result),
    )


def _regressed(examples: Sequence[bytes], result: regression.RegressResult) -> Writing:
    return Writing(
        lambda: Content(json_writer.regressions(result.values)),
        result.values.size,
        partial(logged_regress, examples, result),
    )


def _on_examples(run: Callable[..., None], writing: Callable[..., Writing]) -> Verb:
    """The verb that runs ``run`` on a document's examples and writes its result."""

    def verb(
        handle: ServableHandle,
        document: JsonObject,
        options: RunOptions,
        answer: Answer,
        *,
        check_method_name: bool,
    ) -> None:
        def done(result: object) -> None:
            answer(result if isinstance(result, ServingError) else writing(examples, result))

        name = signature_name(document)
        examples = serialized_examples(document)
        run(handle, name, examples, options, done, check_method_name=check_method_name)

    return verb


classify = _on_examples(classification.classify, _classified)
"""Answers with a list of ``[label, score]`` for each example."""

regress = _on_examples(regression.regress, _regressed)
"""Answers with one number for each example."""
