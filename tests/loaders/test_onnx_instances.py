"""ONNX models in several instances and on chosen devices."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import onnx_models as models
import onnxruntime
import pytest
from waiting import WAIT_SECONDS

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.cancellation import Cancellation
from serving.core.clock import SystemClock
from serving.core.errors import Cancelled, FailedPrecondition
from serving.core.servable import RunCallback, RunOptions, Servable, instances_of, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device
from serving.loaders.instances import InstanceOptions, InstancesServable, load_instances
from serving.loaders.onnx_loader import OnnxPlatform

M1 = ServableId("m", 1)


def two_of(path: Path) -> Servable:
    return load_instances(OnnxPlatform(), M1, str(path), InstanceOptions(2, (CPU,)), Cancellation())


def floats(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def test_two_runs_without_end_are_in_progress_in_two_instances(tmp_path: Path):
    servable = two_of(models.endless(tmp_path))
    first, second = [instance._session for instance in instances_of(servable)]
    assert first is not second
    cancellations = [Cancellation(), Cancellation()]
    ended: SimpleQueue[Any] = SimpleQueue()
    threads = [
        threading.Thread(
            target=servable.run,
            args=({"x": floats(1)}, ["y"], RunOptions(cancellation=cancellation), ended.put),
        )
        for cancellation in cancellations
    ]
    for thread in threads:
        thread.start()
    for cancellation in cancellations:
        until = time.monotonic() + WAIT_SECONDS
        while not getattr(cancellation, "_callbacks", ()):  # its run has not begun
            assert time.monotonic() < until
        assert ended.empty()
    assert servable._in_progress == [1, 1]
    for cancellation in cancellations:
        cancellation.cancel()
        assert isinstance(ended.get(timeout=WAIT_SECONDS), Cancelled)
    for thread in threads:
        thread.join()
    servable.close()


class Meeting:
    """Runs an instance once as many as the barrier asks for are to be run at the same time."""

    def __init__(self, servable: Servable, barrier: threading.Barrier) -> None:
        self._servable = servable
        self._barrier = barrier
        self.signatures = servable.signatures

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        self._barrier.wait(WAIT_SECONDS)
        self._servable.run(feeds, fetches, options, done)

    def close(self) -> None:
        self._servable.close()


@pytest.mark.parametrize("adaptive", [False, True])
def test_batches_of_one_queue_run_in_all_instances_at_the_same_time(tmp_path: Path, adaptive: bool):
    path, barrier = models.half_plus_two(tmp_path), threading.Barrier(3)
    loaded = [OnnxPlatform().load(M1, str(path)) for _ in range(3)]
    servable = InstancesServable([Meeting(instance, barrier) for instance in loaded])
    scheduler = SharedBatchScheduler(SchedulerOptions(3), SystemClock())
    options = BatchingOptions(QueueOptions(max_batch_size=1), adaptive=adaptive)
    batched = BatchingServable(servable, servable, scheduler, options, SystemClock())
    scheduler.start()
    try:
        answers: SimpleQueue[Any] = SimpleQueue()
        for _ in range(6):
            batched.run({"x": floats([2])}, ["y"], RunOptions(), answers.put)
        for _ in range(6):
            (y,) = answers.get(timeout=WAIT_SECONDS)
            assert y.tolist() == [[3]]
    finally:
        scheduler.stop()
        batched.close()


@pytest.mark.parametrize("device", [Device("gpu", 0), Device("cpu", 1)], ids=str)
def test_a_device_that_onnxruntime_does_not_have_is_named_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device
):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(FailedPrecondition) as raised:
        OnnxPlatform().load(M1, str(models.half_plus_two(tmp_path)), device)
    assert raised.value.message == (
        f"{{name: m version: 1}} is to run on {device}, which its platform does not have here; "
        "it has cpu:0"
    )


def test_the_processor_is_used_alone_where_it_is_asked_for(tmp_path: Path):
    servable = OnnxPlatform().load(M1, str(models.half_plus_two(tmp_path)), CPU)
    assert servable._session.get_providers() == ["CPUExecutionProvider"]
    assert run_and_wait(servable, {"x": floats([2])}, ["y"])[0].tolist() == [[3]]


class Session:
    """As far as it matters here, what onnxruntime does on a machine with two GPUs."""

    providers: Sequence[str] = ("CUDAExecutionProvider", "CPUExecutionProvider")

    def __init__(
        self, path: str, options: object, *, providers: Sequence[Any], enable_fallback: bool
    ) -> None:
        (cuda, self.cuda_options), self.other = providers
        assert (cuda, enable_fallback) == ("CUDAExecutionProvider", False)
        if int(self.cuda_options["device_id"]) > 1:
            raise RuntimeError("CUDA failure 101: invalid device ordinal")

    def get_providers(self) -> Sequence[str]:
        return self.providers

    def get_inputs(self) -> Sequence[object]:
        return ()

    get_outputs = get_inputs


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    available = [*Session.providers]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return Session


def test_instances_are_given_the_gpus_in_turn(tmp_path: Path, gpus: type[Session]):
    options = InstanceOptions(3, (Device("gpu", 1), Device("gpu", 0)))
    servable = load_instances(
        OnnxPlatform(), M1, str(models.half_plus_two(tmp_path)), options, Cancellation()
    )
    sessions = [instance._session for instance in instances_of(servable)]
    assert [session.cuda_options["device_id"] for session in sessions] == ["1", "0", "1"]
    assert {session.other for session in sessions} == {"CPUExecutionProvider"}


@pytest.mark.parametrize("falls_back", [False, True])
def test_a_gpu_that_can_not_be_used_is_an_error_and_not_the_processor(
    tmp_path: Path, gpus: type[Session], monkeypatch: pytest.MonkeyPatch, falls_back: bool
):
    if falls_back:
        monkeypatch.setattr(gpus, "providers", ["CPUExecutionProvider"])
    device = Device("gpu", 1 if falls_back else 2)
    reason = "CUDA can not be used" if falls_back else "CUDA failure 101: invalid device ordinal"
    with pytest.raises(FailedPrecondition) as raised:
        OnnxPlatform().load(M1, str(models.half_plus_two(tmp_path)), device)
    assert raised.value.message == (
        f"{{name: m version: 1}} can not be loaded on {device}: {reason}"
    )
