"""Results of classifications and regressions as messages."""

from __future__ import annotations

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.model_spec import encode_model_spec
from serving.inference.classify import ClassifyResult
from serving.inference.regress import RegressResult


def encode_classification(result: ClassifyResult, proto: protos.ClassificationResult) -> None:
    """A list of label and score for each row; the part that a model does not give stays empty.

    Labels are text on the wire: bytes that are not UTF-8 are replaced.
    """
    labels = result.classes.tolist() if result.classes is not None else None
    scores = result.scores.tolist() if result.scores is not None else None
    columns = next(
        (part.shape[1] for part in (result.classes, result.scores) if part is not None), 0
    )
    for row in range(result.rows):
        classes = proto.classifications.add().classes
        for column in range(columns):
            entry = classes.add()
            if labels is not None:
                entry.label = _text(labels[row][column])
            if scores is not None:
                entry.score = scores[row][column]


def encode_regression(result: RegressResult, proto: protos.RegressionResult) -> None:
    """One value for each row."""
    for value in result.values.tolist():
        proto.regressions.add(value=value)


def encode_classify(result: ClassifyResult) -> bytes:
    """The serialized ClassificationResponse."""
    response = protos.ClassificationResponse()
    encode_model_spec(result.servable_id, response.model_spec, result.signature_name)
    response.result.SetInParent()
    encode_classification(result, response.result)
    return response.SerializeToString()


def encode_regress(result: RegressResult) -> bytes:
    """The serialized RegressionResponse."""
    response = protos.RegressionResponse()
    encode_model_spec(result.servable_id, response.model_spec, result.signature_name)
    response.result.SetInParent()
    encode_regression(result, response.result)
    return response.SerializeToString()


def _text(label: bytes | str) -> str:
    return label if isinstance(label, str) else label.decode("utf-8", "replace")
