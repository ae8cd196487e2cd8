"""PredictionLogs and files of them, made with TensorFlow's own messages and its own writer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.inference_pb2 import InferenceTask, MultiInferenceRequest
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import (
    ClassifyLog,
    MultiInferenceLog,
    PredictionLog,
    PredictLog,
    PredictStreamedLog,
    RegressLog,
    SessionRunLog,
)
from tensorflow_serving.apis.regression_pb2 import RegressionRequest


def of_predict(signature_name: str = "", name: str = "", **inputs: object) -> PredictionLog:
    """A request of Predict; without a name and a signature it has no model_spec at all."""
    request = PredictRequest()
    if name or signature_name:
        request.model_spec.name, request.model_spec.signature_name = name, signature_name
    for alias, values in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
    return PredictionLog(predict_log=PredictLog(request=request))


def _example(x: float) -> tf.train.Example:
    value = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": value}))


def of_classify(signature_name: str, *values: float) -> PredictionLog:
    request = ClassificationRequest(model_spec=ModelSpec(signature_name=signature_name))
    request.input.example_list.examples.extend(map(_example, values))
    return PredictionLog(classify_log=ClassifyLog(request=request))


def of_regress(signature_name: str, *values: float) -> PredictionLog:
    request = RegressionRequest(model_spec=ModelSpec(signature_name=signature_name))
    request.input.example_list.examples.extend(map(_example, values))
    return PredictionLog(regress_log=RegressLog(request=request))


def of_multi_inference(*tasks: tuple[str, str], values: Iterable[float]) -> PredictionLog:
    """``tasks``: method (``classify`` or ``regress``) and signature of each."""
    request = MultiInferenceRequest(
        tasks=[
            InferenceTask(
                model_spec=ModelSpec(name="any", signature_name=signature_name),
                method_name=f"tensorflow/serving/{method}",
            )
            for method, signature_name in tasks
        ]
    )
    request.input.example_list.examples.extend(map(_example, values))
    return PredictionLog(multi_inference_log=MultiInferenceLog(request=request))


OF_NOTHING = PredictionLog()
OF_A_SESSION_RUN = PredictionLog(session_run_log=SessionRunLog())
OF_A_STREAM = PredictionLog(predict_streamed_log=PredictStreamedLog())


def write_warm_up(version: Path, *records: PredictionLog | bytes) -> Path:
    """The warm-up file of a version directory, written by TensorFlow."""
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record if isinstance(record, bytes) else record.SerializeToString())
    return path
