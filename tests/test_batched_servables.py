"""What batching tells of the versions it is put around, as they load and as parameters change."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from serving.batched_servables import BatchedServables
from serving.config.batching_parameters import Batching, read_batching
from serving.core.clock import SystemClock
from serving.core.errors import ServingError, Unavailable
from serving.core.servable import Outputs, RunOptions, Servable
from serving.core.servable_id import ServableId
from serving.loaders.instances import InstancesServable
from serving.testing import FakeClock, FakeServable


def wrapped(batched: BatchedServables, version: Path, servable: Servable) -> Servable:
    return batched.wrap(ServableId(version.parent.name, 1), str(version), servable, FakeServable())


def version_of(folder: Path, name: str, parameters: str | None) -> Path:
    version = folder / name / "1"
    version.mkdir(parents=True)
    if parameters is not None:
        (version / "batching_params.pbtxt").write_text(parameters)
    return version


def test_priorities_matter_only_once_a_loaded_version_honours_them(tmp_path: Path):
    """Otherwise a header that a proxy adds would be refused, though nobody asked for priorities."""
    batched = BatchedServables(read_batching("", per_version=True), FakeClock())
    told: list[bool] = []
    batched.tell_of_priorities(told.append)
    assert told == [False]
    kept = [
        wrapped(batched, version_of(tmp_path, "plain", None), FakeServable()),
        wrapped(batched, version_of(tmp_path, "batched", ""), FakeServable()),
    ]
    assert told[-1] is False
    honouring = version_of(tmp_path, "honouring", "honor_priorities: true")
    kept.append(wrapped(batched, honouring, FakeServable()))
    assert told[-1] is True
    (honouring / "batching_params.pbtxt").write_text("")
    batched.reload()
    assert told[-1] is False
    del kept


def test_priorities_matter_no_more_once_the_last_version_that_honours_them_is_unloaded(
    tmp_path: Path,
):
    """Otherwise requests for other models would go on being refused until something loads."""
    batched = BatchedServables(read_batching("", per_version=True), FakeClock())
    told: list[bool] = []
    batched.tell_of_priorities(told.append)
    honouring = [
        wrapped(batched, version_of(tmp_path, name, "honor_priorities: true"), FakeServable())
        for name in ("one", "other")
    ]
    plain = wrapped(batched, version_of(tmp_path, "plain", ""), FakeServable())
    honouring[0].close()
    assert told[-1] is True
    honouring[1].close()
    assert told[-1] is False
    plain.close()


def test_the_end_is_not_held_up_by_a_model_that_hangs_once_the_grace_is_over(tmp_path: Path):
    hangs, gate = threading.Event(), threading.Event()

    def hang(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        hangs.set()
        assert gate.wait(60)
        return {"y:0": feeds["x:0"]}

    parameters = tmp_path / "parameters"
    parameters.write_text("num_batch_threads { value: 1 } max_batch_size { value: 1 }")
    batched = BatchedServables(read_batching(str(parameters), per_version=False), SystemClock())
    queued: list[Outputs | ServingError] = []
    with ExitStack() as running:
        batched.start(0, running, grace_left=lambda: -1.0)
        servable = wrapped(batched, tmp_path / "m" / "1", FakeServable(hang))
        servable.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), lambda _: None)
        assert hangs.wait(60)
        servable.run({"x:0": np.zeros(1)}, ["y:0"], RunOptions(), queued.append)
    assert [type(result) for result in queued] == [Unavailable]
    gate.set()
    servable.close()


def test_fewer_threads_than_instances_are_logged_also_where_a_reload_makes_them_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    parameters = tmp_path / "parameters"
    parameters.write_text("num_batch_threads { value: 3 }")
    batched = BatchedServables(read_batching(str(parameters), per_version=False), FakeClock())
    servable = InstancesServable([FakeServable(), FakeServable(), FakeServable()])
    kept = wrapped(batched, tmp_path / "m" / "1", servable)
    batched.reload()
    warning = "has 3 instances, but num_batch_threads lets only 2 batches run at once"
    assert "num_batch_threads" not in caplog.text
    parameters.write_text("num_batch_threads { value: 2 }")
    batched.reload()
    batched.reload()
    assert caplog.text.count(warning) == 1
    del kept


def test_parameters_that_take_long_to_read_keep_no_unload_and_no_metrics_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They may lie on a mount that hangs."""
    batched = BatchedServables(read_batching("", per_version=True), FakeClock())
    servable = wrapped(batched, version_of(tmp_path, "m", ""), FakeServable())
    entered, go_on = threading.Event(), threading.Event()

    def slow(self: Batching) -> Batching:
        entered.set()
        assert go_on.wait(60)
        return self

    monkeypatch.setattr(Batching, "read_again", slow)
    reloading = threading.Thread(target=batched.reload)
    reloading.start()
    try:
        assert entered.wait(60)
        assert not batched._lock.locked()
        assert batched.waiting_rows() == {ServableId("m", 1): 0}
        servable.close()
        assert not batched.waiting_rows()
    finally:
        go_on.set()
        reloading.join()
