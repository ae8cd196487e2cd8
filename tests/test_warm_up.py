"""Warm-up: which requests of a version's file run, how often, and what fails the load."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import prediction_logs as logs
import pytest
from exported_models import Exported, half_plus_two

from serving.batching.direct_servable import DirectServable
from serving.core.cancellation import Cancellation
from serving.core.errors import (
    Cancelled,
    Code,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    ServingError,
    Unimplemented,
)
from serving.core.servable_id import ServableId
from serving.loaders.instances import InstancesServable
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.testing import FakeClock, FakeServable, InlineExecutor
from serving.warm_up import WARM_UP_FILE, WarmUp, WarmUpEnd

M1 = ServableId("m", 1)
PREDICT = logs.of_predict(x=[1.0])
BAD_PREDICT = logs.of_predict(z=[1.0])


class Watched(FakeServable):
    """Remembers what it was fed; ``on_run`` is called first."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[list[float]] = []
        self.on_run = lambda: None

    def run(self, feeds, fetches, options, done):
        self.on_run()
        self.fed.append(feeds["x:0"].tolist())
        super().run(feeds, fetches, options, done)


def warm_up(
    version: Path, servable, cancellation: Cancellation | None = None, **options: object
) -> list[WarmUpEnd]:
    ends: list[WarmUpEnd] = []
    warm = WarmUp(FakeClock(), ends.append, **options)
    warm(M1, str(version), servable, cancellation or Cancellation())
    return ends


def failure(version: Path, servable, **options: object) -> tuple[ServingError, WarmUpEnd]:
    ends: list[WarmUpEnd] = []
    with pytest.raises(ServingError) as raised:
        WarmUp(FakeClock(), ends.append, **options)(M1, str(version), servable, Cancellation())
    (end,) = ends
    assert end.error is raised.value
    return raised.value, end


def test_a_version_without_a_file_is_fine(tmp_path: Path, caplog):
    with caplog.at_level(logging.INFO):
        assert warm_up(tmp_path, Watched()) == []
    assert f"No warmup data file found at {tmp_path}/assets.extra/" in caplog.text


def test_requests_run_in_the_order_of_the_file(tmp_path: Path, caplog):
    path = logs.write_warm_up(tmp_path, PREDICT, logs.OF_NOTHING, logs.of_predict(x=[2.0, 3.0]))
    servable = Watched()
    with caplog.at_level(logging.INFO):
        assert warm_up(tmp_path, servable) == [WarmUpEnd(M1, str(tmp_path), None, 3, 0.0)]
    assert servable.fed == [[1.0], [2.0, 3.0]]
    assert f"Starting to read warmup data for model at {path}" in caplog.text
    assert (
        f"Finished reading warmup data for model at {path}. Number of warmup records read: 3. "
        "Elapsed time (microseconds): 0."
    ) in caplog.text


def test_each_request_runs_as_often_as_it_is_to(tmp_path: Path):
    logs.write_warm_up(tmp_path, PREDICT, logs.of_predict(x=[2.0]))
    servable = Watched()
    assert warm_up(tmp_path, servable, num_request_iterations=3)[0].records == 2
    assert servable.fed == [[1.0]] * 3 + [[2.0]] * 3


def test_each_request_runs_in_every_instance(tmp_path: Path):
    logs.write_warm_up(tmp_path, PREDICT, logs.of_predict(x=[2.0]))
    first, second = Watched(), Watched()
    direct = DirectServable(InstancesServable([first, second]), InlineExecutor(), FakeClock())
    warm_up(tmp_path, direct, num_request_iterations=2)
    assert first.fed == second.fed == [[1.0]] * 2 + [[2.0]] * 2


def test_model_and_version_of_a_request_do_not_matter(tmp_path: Path):
    request = logs.of_predict(name="another", x=[1.0])
    request.predict_log.request.model_spec.version.value = 7
    logs.write_warm_up(tmp_path, request)
    servable = Watched()
    warm_up(tmp_path, servable)
    assert servable.fed == [[1.0]]


def test_the_first_request_that_fails_fails_the_load(tmp_path: Path):
    logs.write_warm_up(tmp_path, PREDICT, BAD_PREDICT, PREDICT)
    servable = Watched()
    error, end = failure(tmp_path, servable)
    assert isinstance(error, InvalidArgument)
    assert "not found in request" in error.message
    assert end.records == 1
    assert len(servable.fed) == 1


def test_a_signature_that_is_not_there_fails_the_load(tmp_path: Path):
    logs.write_warm_up(tmp_path, logs.of_predict("another", x=[1.0]))
    error, _ = failure(tmp_path, Watched())
    assert isinstance(error, FailedPrecondition)


@pytest.mark.parametrize(
    ("record", "number"), [(logs.OF_A_SESSION_RUN, 5), (logs.OF_A_STREAM, 7)], ids=["run", "stream"]
)
def test_kinds_that_can_not_run_fail_the_load(record, number: int, tmp_path: Path):
    logs.write_warm_up(tmp_path, record)
    error, _ = failure(tmp_path, Watched())
    assert isinstance(error, Unimplemented)
    assert error.message == f"Unsupported log_type for warmup: {number}"


def test_a_record_that_is_no_prediction_log_fails_the_load(tmp_path: Path):
    path = logs.write_warm_up(tmp_path, PREDICT, b"\xff\xff")
    error, _ = failure(tmp_path, Watched())
    assert isinstance(error, InvalidArgument)
    assert error.message == rf"Failed to parse warmup record: b'\xff\xff' from {path}"


def test_a_thousand_requests_are_all_right(tmp_path: Path):
    logs.write_warm_up(tmp_path, *[PREDICT] * 1000)
    assert warm_up(tmp_path, Watched())[0].records == 1000


def test_more_than_a_thousand_requests_fail_the_load_once_the_next_one_has_run(tmp_path: Path):
    path = logs.write_warm_up(tmp_path, *[PREDICT] * 1002)
    servable = Watched()
    error, _ = failure(tmp_path, servable)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.message == f"Number of warmup records exceeds the maximum (1000) at {path}"
    assert len(servable.fed) == 1001


def test_a_broken_file_fails_the_load_and_says_what_is_expected(tmp_path: Path):
    path = logs.write_warm_up(tmp_path, PREDICT)
    path.write_bytes(path.read_bytes()[:-1])
    error, _ = failure(tmp_path, Watched())
    assert isinstance(error, DataLoss)
    assert error.message == (
        "truncated record at 0' failed with Read less bytes than requested. "
        "Please verify your warmup data is in TFRecord format."
    )


def test_a_file_that_can_not_be_read_fails_the_load_and_names_the_version(tmp_path: Path):
    path = tmp_path / WARM_UP_FILE
    path.mkdir(parents=True)
    error, end = failure(tmp_path, Watched())
    assert isinstance(error, FailedPrecondition)
    assert error.message == (
        f"Failed to read warmup data of {{name: m version: 1}} at {path}: Is a directory"
    )
    assert end.records == 0


def test_a_directory_that_can_not_be_looked_into_fails_the_load(tmp_path: Path, monkeypatch):
    def denied(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    logs.write_warm_up(tmp_path, PREDICT)
    monkeypatch.setattr(Path, "stat", denied)
    monkeypatch.setattr(Path, "open", denied)
    error, _ = failure(tmp_path, Watched())
    assert error.message.endswith(": Permission denied")


def test_a_load_that_is_cancelled_runs_no_further_request(tmp_path: Path):
    logs.write_warm_up(tmp_path, *[PREDICT] * 10)
    servable, cancellation = Watched(), Cancellation()

    def cancel_in_the_third() -> None:
        if len(servable.fed) == 2:
            cancellation.cancel()

    servable.on_run = cancel_in_the_third
    with pytest.raises(Cancelled, match="Loading of servable cancelled"):
        warm_up(tmp_path, servable, cancellation)
    assert len(servable.fed) == 3


def test_a_run_is_told_of_the_cancellation_and_waited_for(tmp_path: Path):
    """Nobody may close a servable that runs, so the warm-up ends with the run, not before."""
    logs.write_warm_up(tmp_path, PREDICT)
    cancellation, running = Cancellation(), threading.Event()

    class UntilCancelled(FakeServable):
        def run(self, feeds, fetches, options, done):
            options.cancellation.when_cancelled(lambda: done(Cancelled("given up")))
            running.set()

    ended = threading.Event()

    def load() -> None:
        with pytest.raises(Cancelled, match="Loading of servable cancelled"):
            warm_up(tmp_path, UntilCancelled(), cancellation)
        ended.set()

    thread = threading.Thread(target=load)
    thread.start()
    assert running.wait(60)
    assert not ended.is_set()
    cancellation.cancel()
    thread.join(60)
    assert ended.is_set()


@pytest.fixture(scope="module")
def half(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    version = tmp_path_factory.mktemp("half") / "1"
    shutil.copytree(exported(half_plus_two), version)
    return version


@pytest.fixture(scope="module")
def loaded(half: Path):
    servable = TensorFlowPlatform(TensorFlowOptions()).load(M1, str(half))
    yield servable
    servable.close()


KINDS = {
    "predict": logs.of_predict(x=np.float32([[1.0]])),
    "classify": logs.of_classify("classify_x_to_y", 1.0, 2.0),
    "regress": logs.of_regress("regress_x_to_y", 1.0),
    "multi-inference": logs.of_multi_inference(
        ("classify", "classify_x_to_y"), ("regress", "regress_x_to_y2"), values=[1.0]
    ),
}


@pytest.mark.parametrize("record", KINDS.values(), ids=KINDS)
def test_every_kind_of_request_runs_in_a_saved_model(record, half: Path, loaded):
    logs.write_warm_up(half, record)
    assert warm_up(half, loaded, check_method_name=True)[0].records == 1


BAD_KINDS = {
    "predict": logs.of_predict(x="text"),
    "classify": logs.of_classify("regress_x_to_y", 1.0),
    "regress": logs.of_regress("regress_x_to_y"),
    "multi-inference": logs.of_multi_inference(("regress", "nothing"), values=[1.0]),
}


@pytest.mark.parametrize("record", BAD_KINDS.values(), ids=BAD_KINDS)
def test_every_kind_of_request_can_fail_the_load_of_a_saved_model(record, half: Path, loaded):
    logs.write_warm_up(half, record)
    error, _ = failure(half, loaded, check_method_name=True)
    assert isinstance(error, InvalidArgument)
