"""What TensorFlow Serving's own pages tell people to type, and what they then see.

The pages print predictions on one line. Its server never did: what it writes ends lists of
predictions with a line of their own, and this one does the same to the byte.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from exported_models import half_plus_two, version_number
from stock_clients import client_of, predict_request, publish, spec
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server import ModelServer
from serving.testing import running_server

# From the page on configuration, but for the paths.
MODELS = """
model_config_list {{
  config {{
    name: 'half_plus_two'
    base_path: '{place}/half_plus_two/'
    model_platform: 'tensorflow'
  }}
  config {{
    name: 'half_plus_three'
    base_path: '{place}/half_plus_three/'
    model_platform: 'tensorflow'
  }}
  config {{
    name: 'canaried'
    base_path: '{place}/canaried/'
    model_platform: 'tensorflow'
    model_version_policy {{
      specific {{
        versions: 42
        versions: 43
      }}
    }}
    version_labels {{
      key: 'stable'
      value: 42
    }}
    version_labels {{
      key: 'canary'
      value: 43
    }}
  }}
}}
"""
MONITORING = """
prometheus_config {
  enable: true,
  path: "/monitoring/prometheus/metrics"
}
"""
BATCHING = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 1000000 }
num_batch_threads { value: 8 }
"""


def half_plus_three(directory: Path) -> None:
    """The model y = x / 2 + 3, and a regression of the same."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 0.5 * x + 3.0}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        return {"outputs": 0.5 * x + 3.0}

    signatures = {"serving_default": predict, "tensorflow/serving/regress": regress}
    tf.saved_model.save(module, str(directory), signatures=signatures)


def add_warm_up(version: Path) -> None:
    """As the page on warm-up has it."""
    (version / "assets.extra").mkdir()
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    with tf.compat.v1.python_io.TFRecordWriter(str(file)) as writer:
        request = predict_request(spec("half_plus_three"), x=[1.0])
        log = prediction_log_pb2.PredictionLog(
            predict_log=prediction_log_pb2.PredictLog(request=request)
        )
        writer.write(log.SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    place = tmp_path_factory.mktemp("tutorials")
    publish(half_plus_two, place / "half_plus_two", "00000123")
    add_warm_up(publish(half_plus_three, place / "half_plus_three", "00000123"))
    for version in (42, 43, 44):
        publish(version_number, place / "canaried", version)
    (place / "models.config").write_text(MODELS.format(place=place))
    (place / "monitoring.config").write_text(MONITORING)
    (place / "batching.config").write_text(BATCHING)
    with running_server(
        f"--model_config_file={place}/models.config",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={place}/monitoring.config",
        "--enable_batching",
        f"--batching_parameters_file={place}/batching.config",
    ) as running:
        yield running


def typed(server: ModelServer, command: str) -> str:
    """What a command of a page prints; the port is another one."""
    arguments = shlex.split(command.replace("localhost:8501", f"127.0.0.1:{server.rest_port}"))
    ended = subprocess.run([*arguments, "-s"], capture_output=True, timeout=60, check=True)
    return ended.stdout.decode()


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        (
            "curl http://localhost:8501/v1/models/half_plus_three",
            """{
 "model_version_status": [
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
""",
        ),
        (
            'curl -d \'{"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, '
            '{"x": 2.0}]}\' -X POST http://localhost:8501/v1/models/half_plus_three:regress',
            """{
    "results": [3.5, 4.0]
}""",
        ),
    ],
)
def test_these_print_what_the_page_shows_to_the_byte(
    server: ModelServer, command: str, printed: str
) -> None:
    assert typed(server, command) == printed


@pytest.mark.parametrize(
    ("command", "printed", "lines"),
    [
        (
            "curl -d '{\"instances\": [1.0,2.0,5.0]}' "
            "-X POST http://localhost:8501/v1/models/half_plus_three:predict",
            '{\n    "predictions": [3.5, 4.0, 5.5]\n}',
            '{\n    "predictions": [3.5, 4.0, 5.5\n    ]\n}',
        ),
        (
            "curl -d '{\"instances\": [1.0, 2.0, 5.0]}' "
            "-X POST http://localhost:8501/v1/models/half_plus_three:predict",
            '{ "predictions": [3.5, 4.0, 5.5] }',
            '{\n    "predictions": [3.5, 4.0, 5.5\n    ]\n}',
        ),
        (
            "curl -d '{\"instances\": [1.0, 2.0, 5.0]}' "
            "-X POST http://localhost:8501/v1/models/half_plus_two:predict",
            '{ "predictions": [2.5, 3.0, 4.5] }',
            '{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}',
        ),
    ],
)
def test_these_print_what_the_page_shows_in_the_lines_of_tensorflow_servings_server(
    server: ModelServer, command: str, printed: str, lines: str
) -> None:
    assert typed(server, command) == lines
    assert json.loads(lines) == json.loads(printed)


def test_an_error_has_the_status_the_type_and_the_text_that_the_page_shows(
    server: ModelServer,
) -> None:
    """Not its length: the page is of a time when errors had one line."""
    address = "http://localhost:8501/v1/models/half:predict"
    printed = typed(server, f"curl -i -d '{{\"instances\": [1.0,5.0]}}' -X POST {address}")
    head, _, body = printed.partition("\r\n\r\n")
    first, *headers = head.split("\r\n")
    assert first == "HTTP/1.1 404 Not Found"
    assert {"content-type: application/json", f"content-length: {len(body)}"} <= {
        header.lower() for header in headers
    }
    assert body == '{\n    "error": "Servable not found for request: Latest(half)"\n}'


@pytest.mark.parametrize(
    ("target", "version"), [("labels/stable", 42), ("labels/canary", 43), ("versions/42", 42)]
)
def test_labels_and_versions_lead_where_the_page_sends_them(
    server: ModelServer, target: str, version: int
) -> None:
    address = f"http://localhost:8501/v1/models/canaried/{target}:predict"
    answer = typed(server, f"curl -d '{{\"instances\": [1.0]}}' {address}")
    assert json.loads(answer) == {"predictions": [version]}


def test_a_label_of_a_model_spec_leads_there_as_well(server: ModelServer) -> None:
    with client_of(server.grpc_port) as client:
        answers = [
            client.predict(spec("canaried", label=label), x=[1.0]) for label in ("stable", "canary")
        ]
    assert [answer["version"].tolist() for answer in answers] == [[42], [43]]


def test_the_warm_up_of_the_page_is_read(server: ModelServer) -> None:
    page = typed(server, "curl http://localhost:8501/monitoring/prometheus/metrics")
    assert re.search(
        r'^:tensorflow:serving:model_warmup_records_read\{.*half_plus_three.*,status="OK"\} 1$',
        page,
        re.MULTILINE,
    )
