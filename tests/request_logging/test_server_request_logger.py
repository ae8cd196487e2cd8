"""Request logs follow the configuration: which are refused, which go on, what records say."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
from tensorflow_serving.config.logging_config_pb2 import SamplingConfig
from waiting import await_

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.core.model_config import LoggingConfig, ModelConfig, TaskSampling
from serving.core.request_log import LoggedCall, LoggedVerb
from serving.core.servable_id import ServableId
from serving.metrics.registry import Metrics
from serving.metrics.request_log_metrics import request_log_count
from serving.record_file import RecordReader
from serving.request_logging import log_writer
from serving.request_logging.request_log_options import RequestLogOptions
from serving.request_logging.server_request_logger import ServerRequestLogger
from serving.testing import FakeClock

SAMPLING = SamplingConfig(sampling_rate=1.0, attributes=1)
REQUEST = PredictRequest(output_filter=["y"])
RESPONSE = PredictResponse()
RESPONSE.outputs["y"].dtype = 1
CALL = LoggedCall(
    LoggedVerb.PREDICT,
    ServableId("m", 3),
    "serving_default",
    REQUEST.SerializeToString(),
    RESPONSE.SerializeToString,
    100,
)


def logging(folder: Path, kind: str = "tfrecord", rate: float = 1.0, *tasks: TaskSampling):
    return LoggingConfig(kind, str(folder / "log"), rate, tasks, SAMPLING.SerializeToString())


def model(config: LoggingConfig | None, name: str = "m", **fields: str) -> ModelConfig:
    return ModelConfig(name, "/models/m", logging=config, **fields)


class Logs:
    def __init__(self, **options: object) -> None:
        self.metrics = Metrics()
        self.server = ServerRequestLogger(
            RequestLogOptions(**options), self.metrics, FakeClock(), ["serve"]
        )

    def apply(self, *configs: ModelConfig) -> None:
        self.server.check(configs)
        self.server.apply(configs)

    @property
    def by_model(self):
        return self.server.loggers.by_model

    def stop(self) -> None:
        self.server.stop(60)


@pytest.fixture
def logs():
    made = Logs()
    yield made
    made.stop()


def records(folder: Path) -> list[PredictionLog]:
    found = []
    for path in sorted(folder.glob("log-*.tfrecord")):
        with path.open("rb") as file:
            found += map(PredictionLog.FromString, RecordReader(file))
    return found


def test_a_record_is_the_call_with_what_sampled_it(tmp_path: Path, logs: Logs):
    logs.apply(model(logging(tmp_path)))
    logger = logs.by_model["m"]
    assert logger.is_sampled()
    logger.log(CALL)
    logs.stop()
    (record,) = records(tmp_path)
    assert record.predict_log.request == REQUEST
    assert record.predict_log.response == RESPONSE
    metadata = record.log_metadata
    assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("m", 3)
    assert metadata.model_spec.signature_name == "serving_default"
    assert metadata.sampling_config == SAMPLING
    assert list(metadata.saved_model_tags) == ["serve"]
    assert metadata.timestamp_secs == int(FakeClock().time())
    assert request_log_count(logs.metrics).cells() == {("m", "OK"): 1}


KINDS = {
    LoggedVerb.PREDICT: "predict_log",
    LoggedVerb.CLASSIFY: "classify_log",
    LoggedVerb.REGRESS: "regress_log",
    LoggedVerb.MULTI_INFERENCE: "multi_inference_log",
}


@pytest.mark.parametrize("verb", LoggedVerb)
def test_each_verb_has_its_kind_of_log(verb: LoggedVerb, tmp_path: Path, logs: Logs):
    logs.apply(model(logging(tmp_path)))
    logs.by_model["m"].log(LoggedCall(verb, ServableId("m", 3), "s", b"", lambda: b"", 0))
    logs.stop()
    (record,) = records(tmp_path)
    assert record.WhichOneof("log_type") == KINDS[verb]


def test_json_lines_hold_the_same_record(tmp_path: Path, logs: Logs):
    logs.apply(model(logging(tmp_path, "jsonl")))
    logs.by_model["m"].log(CALL)
    logs.by_model["m"].log(CALL)
    logs.stop()
    (path,) = tmp_path.glob("log-*.jsonl")
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == second
    assert first["predict_log"]["request"] == {"output_filter": ["y"]}
    assert first["log_metadata"]["model_spec"]["name"] == "m"


@pytest.mark.parametrize(
    ("platform", "tags"), [("tensorflow", ["serve"]), ("", ["serve"]), ("onnx", [])]
)
def test_tags_are_those_of_what_may_be_saved_models(
    tmp_path: Path, logs: Logs, platform: str, tags: list[str]
):
    logs.apply(model(logging(tmp_path), platform=platform))
    logs.by_model["m"].log(CALL)
    logs.stop()
    assert list(records(tmp_path)[0].log_metadata.saved_model_tags) == tags


def test_models_without_logging_or_with_a_rate_of_0_have_no_logger(tmp_path: Path, logs: Logs):
    logs.apply(model(None, "a"), model(logging(tmp_path, rate=0.0), "b"))
    assert logs.by_model == {}


def test_calls_are_sampled_uniformly(tmp_path: Path, logs: Logs):
    logs.apply(model(logging(tmp_path, rate=0.25)))
    sampled = sum(logs.by_model["m"].is_sampled() for _ in range(10_000))
    assert 2000 < sampled < 3000


AB, CD = TaskSampling("ab", None, 0.0), TaskSampling("cd", 1, 1.0)


@pytest.mark.parametrize(
    ("tasks", "is_logged"),
    [
        ((), False),
        ((CD,), True),
        ((AB, CD), True),
        ((TaskSampling("cd", None, 0.0), CD), False),
        ((TaskSampling("", None, 1.0),), True),
        ((TaskSampling("cd", 0, 1.0),), False),
        ((TaskSampling("", 1, 1.0),), True),
    ],
)
def test_the_first_entry_that_means_this_server_sets_its_rate(
    tasks: Sequence[TaskSampling], is_logged: bool, tmp_path: Path
):
    logs = Logs(dc="cd", task_index=1)
    logs.apply(model(logging(tmp_path, "tfrecord", 0.0, *tasks)))
    assert ("m" in logs.by_model) == is_logged
    logs.stop()


def test_what_a_reload_leaves_as_it_was_goes_on_and_the_rest_is_made_anew(
    tmp_path: Path, logs: Logs
):
    same, changed, gone = (model(logging(tmp_path), name) for name in ("same", "changed", "gone"))
    logs.apply(same, changed, gone)
    before = logs.by_model
    logs.apply(same, model(logging(tmp_path, rate=0.5), "changed"), model(None, "gone"))
    assert logs.by_model.keys() == {"same", "changed"}
    assert logs.by_model["same"] is before["same"]
    assert logs.by_model["changed"] is not before["changed"]
    assert before.keys() == {"same", "changed", "gone"}, "a reader's map must not change under it"


def test_models_that_name_the_same_files_share_them(tmp_path: Path, logs: Logs):
    logs.apply(model(logging(tmp_path), "a"), model(logging(tmp_path, rate=0.5), "b"))
    for name in ("a", "b"):
        logs.by_model[name].log(CALL)
    logs.stop()
    assert len(list(tmp_path.iterdir())) == 1
    assert len(records(tmp_path)) == 2


def open_files(folder: Path) -> set[str]:
    """The suffixes of the files in there that this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # another thread has closed it meanwhile
            path = descriptor.readlink()
            if path.is_relative_to(folder):
                found.add(path.suffix)
    return found


def test_a_log_that_a_reload_takes_away_has_no_open_file_any_more(tmp_path: Path, logs: Logs):
    logs.apply(model(logging(tmp_path), "gone"), model(logging(tmp_path, "jsonl"), "stays"))
    for name in ("gone", "stays"):
        logs.by_model[name].log(CALL)
    await_(lambda: open_files(tmp_path) == {".tfrecord", ".jsonl"})
    logs.apply(model(None, "gone"), model(logging(tmp_path, "jsonl"), "stays"))
    await_(lambda: open_files(tmp_path) == {".jsonl"})


def refusal(config: LoggingConfig) -> str:
    with pytest.raises(InvalidArgument) as raised:
        Logs().server.check([model(None), model(config, "bad")])
    return raised.value.message


@pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan, math.inf])
def test_a_rate_that_is_no_share_is_refused(rate: float, tmp_path: Path):
    assert refusal(logging(tmp_path, rate=rate)) == (
        "Model bad: logging_config.sampling_config.sampling_rate must be between 0 and 1, "
        f"not {rate:g}"
    )
    assert refusal(logging(tmp_path, "tfrecord", 1.0, AB, TaskSampling("", 0, rate))) == (
        "Model bad: logging_config.sampling_config.per_task_sampling_configs[1].sampling_rate "
        f"must be between 0 and 1, not {rate:g}"
    )


def test_an_unknown_kind_is_refused(tmp_path: Path):
    assert refusal(logging(tmp_path, "recordio")) == (
        "Model bad: logging_config.log_collector_config.type must be one of jsonl, tfrecord, "
        "not 'recordio'"
    )


@pytest.mark.parametrize("prefix", ["", "logs/m", "/logs/"])
def test_a_prefix_that_does_not_say_where_is_refused(prefix: str):
    assert refusal(LoggingConfig("tfrecord", prefix, 1.0)) == (
        "Model bad: logging_config.log_collector_config.filename_prefix must be an absolute path "
        f"that ends with the beginning of file names, not '{prefix}'"
    )


def in_a_file(folder: Path) -> ModelConfig:
    """A log whose directory can not be, as there is a file in its place."""
    (folder / "file").touch()
    return model(logging(folder / "file"), "bad")


def unwritable(folder: Path) -> str:
    return (
        f"Model bad: logging_config.log_collector_config.filename_prefix: {folder}/file can not "
        "be written to: "
    )


def test_a_directory_that_can_not_be_written_to_is_refused(tmp_path: Path):
    with pytest.raises(FailedPrecondition) as raised:
        Logs().server.check([in_a_file(tmp_path)])
    assert raised.value.message.startswith(unwritable(tmp_path))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_log_that_was_there_before_does_not_end_reloads_when_its_directory_does(
    rate: float, tmp_path: Path, logs: Logs, caplog
):
    before = model(logging(tmp_path / "file", rate=rate), "bad")
    logs.apply(before)
    (tmp_path / "file").rmdir()
    logs.apply(in_a_file(tmp_path))
    assert unwritable(tmp_path) in caplog.text
    with pytest.raises(FailedPrecondition):
        logs.apply(model(logging(tmp_path / "file", "jsonl"), "bad"))


def test_a_process_that_replaces_another_takes_the_logs_that_are_there_as_they_are(
    tmp_path: Path, caplog
):
    replacement = Logs(is_replacement=True)
    replacement.apply(in_a_file(tmp_path))
    assert unwritable(tmp_path) in caplog.text
    with pytest.raises(FailedPrecondition):
        replacement.apply(model(logging(tmp_path / "file", "jsonl"), "bad"))
    replacement.stop()


def test_every_call_has_a_size_so_that_small_ones_fill_the_queue_too(
    tmp_path: Path, logs: Logs, monkeypatch
):
    monkeypatch.setattr(log_writer, "MOST_WAITING_BYTES", 1000)
    logs.apply(model(logging(tmp_path)))
    logs.by_model["m"].log(LoggedCall(LoggedVerb.PREDICT, ServableId("m", 3), "s", b"", b"", 0))
    logs.stop()
    assert request_log_count(logs.metrics).cells() == {("m", "RESOURCE_EXHAUSTED"): 1}
