"""Classify, Regress and MultiInference of a model that TensorFlow 2 exported.

Its signatures say that they are for Predict, whatever they are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from exported_models import Exported
from stock_clients import (
    Client,
    classify_request,
    client_of,
    example,
    multi_inference_request,
    regress_request,
    spec,
)

from serving.testing import running_server


def half_plus_two_of_examples(directory: Path) -> None:
    """Half plus two of the feature ``x``: ``classify`` gives scores, ``regress`` outputs."""
    module = tf.Module()
    module.half = tf.Variable(0.5)
    examples = [tf.TensorSpec([None], tf.string, name="inputs")]

    def half_plus_two(inputs: tf.Tensor) -> tf.Tensor:
        features = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        return module.half * features["x"] + 2.0

    @tf.function(input_signature=examples)
    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": half_plus_two(inputs)}

    @tf.function(input_signature=examples)
    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"outputs": half_plus_two(inputs)}

    signatures = {"classify": classify, "regress": regress}
    tf.saved_model.save(module, str(directory), signatures=signatures)


@pytest.fixture(scope="module")
def client(exported: Exported) -> Iterator[Client]:
    base = exported(half_plus_two_of_examples).parent
    flags = ("--model_name=m", f"--model_base_path={base}")
    with running_server(*flags) as server, client_of(server.grpc_port) as client:
        yield client


def test_it_classifies(client: Client) -> None:
    response = client.call("Classify", classify_request(spec("m", "classify"), example(x=2.0)))
    (classification,) = response.result.classifications
    assert [each.score for each in classification.classes] == [3.0]
    assert (response.model_spec.signature_name, response.model_spec.version.value) == (
        "classify",
        1,
    )


def test_it_regresses(client: Client) -> None:
    response = client.call("Regress", regress_request(spec("m", "regress"), example(x=2.0)))
    assert [each.value for each in response.result.regressions] == [3.0]
    assert response.model_spec.signature_name == "regress"


def test_it_does_both_at_once(client: Client) -> None:
    tasks = [(spec("m", verb), verb) for verb in ("regress", "classify")]
    request = multi_inference_request(*tasks, examples=(example(x=2.0),))
    regressed, classified = client.call("MultiInference", request).results
    assert regressed.regression_result.regressions[0].value == 3.0
    assert classified.classification_result.classifications[0].classes[0].score == 3.0
    names = [each.model_spec.signature_name for each in (regressed, classified)]
    assert names == ["regress", "classify"]
