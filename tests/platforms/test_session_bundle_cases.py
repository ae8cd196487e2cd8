"""SessionBundles on a server: as every platform's models, with the verbs of their signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
import session_bundles
import tensorflow as tf
from platform_tests import PlatformCase, PlatformTests, served
from tensorflow.core.protobuf.saver_pb2 import SaverDef
from tensorflow_serving.apis import (
    classification_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from waiting import WAIT_SECONDS

from serving.core.errors import Code, ServingError
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.testing import running_server

__all__ = ["served"]  # the fixture, which pytest finds here

INPUTS = {"x": np.float32([1, 7])}


def write(directory: Path, **saver: object) -> Mapping[str, np.ndarray]:
    session_bundles.half_plus_two(directory, default=False, **saver)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        importer = tf.compat.v1.train.import_meta_graph(str(directory / "export.meta"))
        pattern = "export" if (directory / "export").exists() else "export-?????-of-?????"
        importer.restore(session, str(directory / pattern))
        return {"y": session.run("y:0", {"x:0": INPUTS["x"]})}


def write_whole(directory: Path) -> Mapping[str, np.ndarray]:
    return write(directory, sharded=False, write_version=SaverDef.V1)


OPTIONS = TensorFlowOptions()
CASES = [
    PlatformCase(
        "sharded", "tensorflow", "export.meta", write, INPUTS, options=TensorFlowOptions()
    ),
    PlatformCase("whole", "tensorflow", "export", write_whole, INPUTS, options=OPTIONS),
]


class TestSessionBundle(PlatformTests):
    def test_a_file_that_is_damaged_is_refused_with_a_reason(
        self, case: PlatformCase, tmp_path: Path
    ):
        """With the codes of damaged SavedModels; the server's paths are not told."""
        (tmp_path / "1").mkdir()
        case.write(tmp_path / "1")
        file = tmp_path / "1" / case.file
        whole = file.read_bytes()
        for content in (whole[: len(whole) // 2], whole[:20], b"", b"hello\n", b"\x00" * 500):
            file.write_bytes(content)
            with pytest.raises(ServingError) as raised:
                case.load(tmp_path / "1")
            assert raised.value.code in {Code.DATA_LOSS, Code.INVALID_ARGUMENT}, content[:20]
            assert str(tmp_path) not in raised.value.message


@pytest.fixture(scope="module")
def predictions(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    """The service of a server that was told the directory alone, as at first."""
    base = tmp_path_factory.mktemp("bundle")
    session_bundles.half_plus_two(base / "00000123")
    with (
        running_server(f"--model_base_path={base}", "--model_name=m") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def example(x: float) -> tf.train.Example:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature}))


def test_a_classification_signature_is_for_classify(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub,
):
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = "classify"
    request.input.example_list.examples.extend([example(1), example(4)])
    answer = predictions.Classify(request, timeout=WAIT_SECONDS)
    assert answer.model_spec.version.value == 123
    classes = [row.classes[0] for row in answer.result.classifications]
    assert [(each.label, each.score) for each in classes] == [("small", 2.5), ("large", 4.0)]


def test_a_regression_signature_is_for_regress(
    predictions: prediction_service_pb2_grpc.PredictionServiceStub,
):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "m"
    request.model_spec.signature_name = "regress"
    request.input.example_list.examples.extend([example(1), example(4)])
    answer = predictions.Regress(request, timeout=WAIT_SECONDS)
    assert [row.value for row in answer.result.regressions] == [2.5, 4.0]
