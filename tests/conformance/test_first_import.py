"""A server that has no model of TensorFlow does not import it, and can still load one later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tflite_models
from exported_models import half_plus_two
from program import PROGRAM
from waiting import START_SECONDS

CODE = """
import sys
from serving.testing import running_server

def imported():
    return bool({"tensorflow", "keras", "torch", "onnxruntime", "sklearn"} & sys.modules.keys())

table, saved = sys.argv[1:]
with running_server(f"--model_config_file={table}"):
    print(imported())
with running_server("--model_name=half", f"--model_base_path={saved}") as server:
    print(imported())
    import grpc
    from tensorflow_serving.apis.predict_pb2 import PredictRequest
    from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub
    import tensorflow as tf
    request = PredictRequest()
    request.model_spec.name = "half"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([2.0]))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        answer = PredictionServiceStub(channel).Predict(request, timeout=60)
    print(tf.make_ndarray(answer.outputs["y"]).tolist())
"""


def test_tensorflow_is_imported_with_the_first_model_that_needs_it(tmp_path: Path):
    (tmp_path / "table" / "1").mkdir(parents=True)
    (tmp_path / "table" / "1" / "table.csv").write_text("one,1\n")
    tflite_models.half_plus_two(tmp_path / "lite" / "1")
    half_plus_two(tmp_path / "saved" / "1")
    config = tmp_path / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "{platform}" }}'
        for name, platform in (("table", "hashmap"), ("lite", "tflite"))
    )
    config.write_text(f"model_config_list {{ {models} }}")
    done = subprocess.run(
        [sys.executable, "-c", CODE, config, tmp_path / "saved"],
        capture_output=True,
        check=False,
        cwd=PROGRAM.parent,
        text=True,
        timeout=START_SECONDS,
    )
    assert done.stdout.splitlines() == ["False", "True", "[3.0]"], done.stderr
