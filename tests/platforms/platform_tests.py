"""What every platform's models must do, as one class of tests over a table of cases.

A platform's file of tests skips itself where the framework is not installed, lists its cases and
inherits the tests::

    pytest.importorskip("xgboost", reason="xgboost is not installed")

    CASES = [
        PlatformCase("json", "xgboost", "model.json", write_json, {"x": FEATURES}),
    ]

    class TestXGBoost(PlatformTests):
        pass

``conftest.py`` runs each test with each of the module's ``CASES``. What is peculiar to the platform
stands in functions beside the class.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hostile_files import hostile_contents
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from waiting import WAIT_SECONDS, await_

from serving.config.installed_platforms import installed_platforms
from serving.core.errors import Code, ServingError
from serving.core.servable_id import ServableId
from serving.loaders.platforms import Platforms
from serving.testing import running_server

_BATCHES_OF_TWO = "max_batch_size { value: 2 } batch_timeout_micros { value: 60000000 }"
_CONFIG = """
model_config_list {{
  config {{ name: "alone" base_path: "{folder}/alone" {platform} }}
  config {{ name: "pairs" base_path: "{folder}/pairs" {platform} }}
}}
"""
_BAD_FILE = {Code.INVALID_ARGUMENT, Code.NOT_FOUND}
# What the operator has not allowed, and what TensorFlow says of damaged checkpoints.
_BAD_MODEL = {*_BAD_FILE, Code.FAILED_PRECONDITION, Code.DATA_LOSS}
_END = 50  # of ModelVersionStatus.State


@dataclass(frozen=True)
class PlatformCase:
    """One kind of model file of a platform.

    ``write(directory)`` writes the version with the real framework and returns the framework's own
    outputs for ``inputs``, which have two rows. ``file`` is the model's file within the version.
    ``detected`` is whether the platform is told from the files; else the configuration names it.
    ``batches`` is False where the model has no batch dimension. Outputs are compared within
    ``tolerance``, relative and absolute; 0 is exactly.
    ``flags`` are given to the server, ``options`` is what the platform is made with then;
    ``allows_code`` is whether these allow a file to run code.
    """

    id: str
    platform: str
    file: str
    write: Callable[[Path], Mapping[str, np.ndarray]]
    inputs: Mapping[str, np.ndarray]
    detected: bool = True
    batches: bool = True
    tolerance: float = 0
    flags: tuple[str, ...] = ()
    options: object = None
    allows_code: bool = False

    def rows(self, *indices: int) -> dict[str, np.ndarray]:
        """These rows of all inputs."""
        return {name: values[list(indices)] for name, values in self.inputs.items()}

    def load(self, path: Path) -> Any:
        """The version loaded without a server; raises its ServingError."""
        platforms = Platforms({self.platform: self.options}, added=installed_platforms())
        return platforms.get(self.platform).load(ServableId("m", 1), str(path))


@dataclass(frozen=True)
class ServedCase:
    """A server with the case's model as ``alone``, and as ``pairs``, which runs two rows at once.

    ``expected`` are the framework's own outputs.
    """

    case: PlatformCase
    expected: Mapping[str, np.ndarray]
    folder: Path
    rest_port: int
    stub: Any
    model_stub: Any

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        signature: str = "",
        output_filter: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Outputs by gRPC."""
        request = predict_pb2.PredictRequest(output_filter=output_filter)
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        for name, values in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
        answer = self.stub.Predict(request, timeout=WAIT_SECONDS)
        return {name: tf.make_ndarray(proto) for name, proto in answer.outputs.items()}

    def refusal(self, inputs: Mapping[str, Any], **wanted: Any) -> tuple[str, str]:
        """Code and text of a gRPC call that has to fail."""
        with pytest.raises(grpc.RpcError) as raised:
            self.predict("alone", inputs, **wanted)
        return raised.value.code().name, raised.value.details()

    def state_of(self, version: int) -> Any:
        """The ModelVersionStatus of a version of ``alone``; None before the server has seen it."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "alone"
        answer = self.model_stub.GetModelStatus(request, timeout=WAIT_SECONDS)
        found = [each for each in answer.model_version_status if each.version == version]
        return found[0] if found else None

    def rest(self, model: str, body: Any) -> tuple[int, Any]:
        """Status and document of a REST prediction."""
        url = f"http://127.0.0.1:{self.rest_port}/v1/models/{model}:predict"
        try:
            with urllib.request.urlopen(url, json.dumps(body).encode(), WAIT_SECONDS) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def check(self, outputs: Mapping[str, Any], *rows: int) -> None:
        """Hold outputs, as arrays or lists, against these rows of the framework's own."""
        assert outputs.keys() == self.expected.keys()
        for name, values in self.expected.items():
            wanted = values[list(rows)] if rows else values
            found = np.asarray(outputs[name])
            assert found.shape == wanted.shape, name
            if wanted.dtype.kind in "OSU":
                assert [_text(each) for each in found.flat] == [_text(each) for each in wanted.flat]
            elif self.case.tolerance:
                np.testing.assert_allclose(
                    found, wanted, self.case.tolerance, self.case.tolerance, err_msg=name
                )
            else:
                np.testing.assert_array_equal(found.astype(wanted.dtype), wanted, err_msg=name)


@pytest.fixture(scope="module")
def served(case: PlatformCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedCase]:
    """The case's model on a server in this process; import it beside the class."""
    folder = tmp_path_factory.mktemp(case.platform)
    expected = case.write(_made(folder / "alone" / "1"))
    shutil.copytree(folder / "alone", folder / "pairs")
    (folder / "pairs" / "1" / "batching_params.pbtxt").write_text(_BATCHES_OF_TWO)
    config = folder / "models.config"
    platform = "" if case.detected else f'model_platform: "{case.platform}"'
    config.write_text(_CONFIG.format(folder=folder, platform=platform))
    flags = (
        f"--model_config_file={config}",
        "--enable_batching",
        "--enable_per_model_batching_parameters",
        "--max_num_load_retries=0",
        f"--rest_api_timeout_in_ms={1000 * WAIT_SECONDS}",
    )
    with ExitStack() as running:
        server = running.enter_context(running_server(*flags, *case.flags))
        channel = running.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert server.grpc_port is not None
        assert server.rest_port is not None
        model_stub = model_service_pb2_grpc.ModelServiceStub(channel)
        yield ServedCase(case, expected, folder, server.rest_port, stub, model_stub)


class PlatformTests:
    """The tests; ``served`` has to be imported where they are inherited."""

    def test_grpc_answers_as_the_framework_does(self, served: ServedCase):
        served.check(served.predict("alone", served.case.inputs))

    def test_rest_answers_columns_as_the_framework_does(self, served: ServedCase):
        columns = {name: _json(values) for name, values in served.case.inputs.items()}
        status, document = served.rest("alone", {"inputs": columns})
        assert status == 200, document
        served.check(_by_name(served, document["outputs"]))

    def test_rest_answers_rows_as_the_framework_does(self, served: ServedCase):
        if not served.case.batches:
            pytest.skip("the model has no rows")
        rows = [
            {name: _json(values[row]) for name, values in served.case.inputs.items()}
            for row in range(2)
        ]
        status, document = served.rest("alone", {"instances": rows})
        assert status == 200, document
        several = len(served.expected) > 1
        answers = document["predictions"]
        (only, *_) = served.expected
        served.check(
            {name: [each[name] for each in answers] for name in served.expected}
            if several
            else {only: answers}
        )

    def test_requests_that_share_a_batch_are_answered_as_the_framework_does(
        self, served: ServedCase
    ):
        """One row alone would wait for a minute."""
        if not served.case.batches:
            pytest.skip("the model has no rows")
        with ThreadPoolExecutor(2) as callers:
            calls = [
                callers.submit(served.predict, "pairs", served.case.rows(row)) for row in range(2)
            ]
            for row, call in enumerate(calls):
                served.check(call.result(), row)

    def test_wrong_inputs_are_the_requests_fault(self, served: ServedCase):
        """With the code that TensorFlow's models have for each of them."""
        inputs = dict(served.case.inputs)
        name, values = next(iter(inputs.items()))
        wrong_type = np.full(values.shape, b"text") if values.dtype.kind != "O" else 1.0
        ill_fitting = [
            {**inputs, name: each} for each in (wrong_type, values[..., np.newaxis, np.newaxis])
        ]
        for wrong in (
            *ill_fitting,
            {key: inputs[key] for key in inputs if key != name},
            {**inputs, "no such input": values},
            {**{key: inputs[key] for key in inputs if key != name}, "no such input": values},
        ):
            code, text = served.refusal(wrong)
            assert code == "INVALID_ARGUMENT", text
            # TensorFlow leaves types and shapes to its operations, which name themselves.
            is_judged_there = any(wrong is each for each in ill_fitting)
            assert name in text or (is_judged_there and served.case.platform == "keras")
        status, document = served.rest("alone", {"inputs": {"no such input": 1}})
        assert (status, document.keys()) == (400, {"error"})

    def test_what_a_request_asks_for_has_to_be_there(self, served: ServedCase):
        """With the texts that TensorFlow's models have, too."""
        inputs = served.case.inputs
        assert served.refusal(inputs, signature="no such") == (
            "FAILED_PRECONDITION",
            'Serving signature key "no such" not found.',
        )
        code, text = served.refusal(inputs, output_filter=["no such"])
        assert code == "INVALID_ARGUMENT"
        assert text.startswith("output tensor alias not found in signature: no such Outputs expec")
        only = next(iter(served.expected))
        assert served.refusal(inputs, output_filter=[only, only]) == (
            "INVALID_ARGUMENT",
            f"duplicate output tensor alias: {only}",
        )
        answer = served.predict("alone", inputs, "serving_default", [only])
        assert list(answer) == [only]

    def test_a_version_that_is_no_model_ends_and_the_others_go_on(
        self, served: ServedCase, tmp_path: Path
    ):
        spoiled = tmp_path / "2"
        served.case.write(_made(spoiled))
        (spoiled / served.case.file).write_bytes(b"hello\n")
        spoiled.rename(served.folder / "alone" / "2")
        await_(
            lambda: (found := served.state_of(2)) and found.state == _END,
            lambda: f"version 2 to end, not {served.state_of(2)}",
        )
        status = served.state_of(2).status
        assert status.error_code in {code.value for code in _BAD_MODEL}
        assert len(status.error_message) > 10
        served.check(served.predict("alone", served.case.inputs))

    def test_hostile_files_are_refused_and_nothing_in_them_is_run(
        self, case: PlatformCase, tmp_path: Path
    ):
        version, canary = _made(tmp_path / "1"), tmp_path / "canary"
        case.write(version)
        safe = replace(case, options=None) if case.allows_code else case
        for what, content in hostile_contents(canary).items():
            (version / case.file).write_bytes(content)
            _refusal(safe, version, what)
            assert not canary.exists(), what

    def test_what_is_no_file_is_refused_with_a_reason(self, case: PlatformCase, tmp_path: Path):
        """A directory, a link to itself, one to nowhere, and none."""
        case.write(_made(tmp_path / "1"))
        file = tmp_path / "1" / case.file
        file.unlink()
        _refusal(case, tmp_path / "1", "nothing")
        for target in (file, tmp_path / "nowhere"):
            file.symlink_to(target)
            _refusal(case, tmp_path / "1", f"link to {target.name}")
            file.unlink()
        file.mkdir()
        _refusal(case, tmp_path / "1", "directory")

    @pytest.mark.timeout(600)  # some platforms start a process for each of the files
    def test_a_file_that_is_damaged_is_refused_with_a_reason(
        self, case: PlatformCase, tmp_path: Path
    ):
        """Cut short, empty, or something else; the server's paths are not told. The whole one
        is not refused.
        """
        case.write(_made(tmp_path / "1"))
        case.load(tmp_path / "1").close()
        file = tmp_path / "1" / case.file
        whole = file.read_bytes()
        cut = [whole[: len(whole) * eighths // 8] for eighths in range(1, 8)]
        for content in (*cut, whole[:20], b"", b"hello\n", b"\x00" * 500):
            file.write_bytes(content)
            with pytest.raises(ServingError) as raised:
                case.load(tmp_path / "1")
            assert raised.value.code in _BAD_FILE, content[:20]
            assert len(raised.value.message) > 10
            assert str(tmp_path) not in raised.value.message


def _refusal(case: PlatformCase, version: Path, what: str) -> None:
    """Have the load refused with a reason, without the server's paths."""
    with pytest.raises(ServingError) as raised:
        case.load(version)
    code, message = raised.value.code, raised.value.message
    assert len(message) > 10, what
    if case.platform == "tensorflow":  # what it says of files itself has their paths in it
        assert code in {*_BAD_MODEL, Code.UNKNOWN}, f"{what}: {message}"
    else:
        assert code in _BAD_MODEL, f"{what}: {message}"
        assert str(version.parent) not in message, what


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def _by_name(served: ServedCase, outputs: Any) -> Mapping[str, Any]:
    """A single output stands in a document without its name."""
    if len(served.expected) > 1:
        return outputs
    return {next(iter(served.expected)): outputs}


def _json(values: Any) -> Any:
    listed = np.asarray(values)
    if listed.dtype.kind in "OS":
        return np.vectorize(_text, otypes=[object])(listed).tolist()
    return listed.tolist()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
