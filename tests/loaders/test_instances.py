"""Several instances of one version: how they are placed, share runs and come and go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from serving.core.cancellation import Cancellation
from serving.core.errors import Cancelled, DataLoss, FailedPrecondition, InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import RunCallback, RunOptions, Servable, instances_of, max_runs_of
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device, device_named
from serving.loaders.hashmap_loader import HashmapPlatform
from serving.loaders.instances import InstanceOptions, InstancesServable, load_instances
from serving.loaders.simple_loader import SimpleLoader
from serving.testing import FakeServable

M1 = ServableId("m", 1)
GPUS = (Device("gpu", 0), Device("gpu", 1))


class Held(FakeServable):
    """Answers a run when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[RunCallback] = []

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        self.waiting.append(done)

    def answer(self) -> None:
        self.waiting.pop(0)([])


class Unclosable(FakeServable):
    def close(self) -> None:
        super().close()
        raise RuntimeError("defect")


def start(servable: Servable, runs: int) -> None:
    for _ in range(runs):
        servable.run({}, [], RunOptions(), lambda _: None)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("cpu:0", Device("cpu", 0)),
        ("GPU:12", Device("gpu", 12)),
        ("gpu", Device("gpu", 0)),
        (" gpu:1 ", Device("gpu", 1)),
    ],
)
def test_devices_have_names(name: str, device: Device):
    assert device_named(name) == device
    assert device_named(str(device)) == device


@pytest.mark.parametrize("name", ["", "tpu:0", "gpu:", "gpu:-1", "gpu:x", "gpu:0:1", "gpu:٣"])
def test_a_name_that_is_no_device_is_said(name: str):
    with pytest.raises(
        InvalidArgument, match="is not a device; devices are called cpu:0"
    ) as raised:
        device_named(name)
    assert f"'{name}'" in raised.value.message


@pytest.mark.parametrize(
    ("options", "placements"),
    [
        (InstanceOptions(), [None]),
        (InstanceOptions(3), [None, None, None]),
        (InstanceOptions(0, GPUS), [*GPUS]),
        (InstanceOptions(1, GPUS), [GPUS[0]]),
        (InstanceOptions(3, GPUS), [GPUS[0], GPUS[1], GPUS[0]]),
    ],
)
def test_instances_get_the_devices_in_turn(
    options: InstanceOptions, placements: Sequence[Device | None]
):
    assert options.placements == placements


def test_less_than_no_instance_is_refused():
    with pytest.raises(
        InvalidArgument, match="instances_per_model must not be negative, but is -1"
    ):
        InstanceOptions(-1)


def test_more_instances_than_anybody_means_are_refused():
    assert len(InstanceOptions(256).placements) == 256
    with pytest.raises(
        InvalidArgument, match="instances_per_model must be at most 256, but is 257"
    ):
        InstanceOptions(257)


class Failing:
    """Loads until it is at ``gpu:1``."""

    def __init__(self) -> None:
        self.loaded: list[FakeServable] = []

    def estimate(self, path: str) -> ResourceAllocation:
        return ResourceAllocation()

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        if device == GPUS[1]:
            raise DataLoss("half a file")
        self.loaded.append(FakeServable())
        return self.loaded[-1]


def test_where_one_can_not_be_loaded_those_before_it_are_closed():
    platform = Failing()
    with pytest.raises(DataLoss):
        load_instances(platform, M1, "/m/1", InstanceOptions(0, GPUS), Cancellation())
    assert [servable.closed for servable in platform.loaded] == [True]


def test_a_load_that_is_not_wanted_any_more_ends_with_the_instance_it_is_at():
    cancellation = Cancellation()

    class Cancelling(Failing):
        def load(
            self, servable_id: ServableId, path: str, device: Device | None = None
        ) -> Servable:
            if self.loaded:
                cancellation.cancel()
            return super().load(servable_id, path, device)

    platform = Cancelling()
    with pytest.raises(Cancelled, match="Loading of servable cancelled"):
        load_instances(platform, M1, "/m/1", InstanceOptions(5), cancellation)
    assert [servable.closed for servable in platform.loaded] == [True, True]


def test_cancelling_a_loader_ends_its_load_between_two_instances():
    class Cancelling(Failing):
        def load(
            self, servable_id: ServableId, path: str, device: Device | None = None
        ) -> Servable:
            loader.cancel_load()
            return super().load(servable_id, path, device)

    platform = Cancelling()
    loader = SimpleLoader(
        "/", lambda: platform, lambda _i, _p, each: each, instances_of=lambda _: InstanceOptions(5)
    )
    with pytest.raises(Cancelled):
        loader.load(M1)
    assert [servable.closed for servable in platform.loaded] == [True]
    assert loader.servable is None


def test_a_single_instance_is_served_as_it_is():
    platform = Failing()
    servable = load_instances(platform, M1, "/m/1", InstanceOptions(), Cancellation())
    assert servable is platform.loaded[0]
    assert instances_of(servable) == (servable,)


def test_a_run_goes_to_the_instance_with_the_fewest_in_progress():
    instances = [Held(), Held(), Held()]
    servable = InstancesServable(instances)
    assert instances_of(servable) == instances
    start(servable, 6)
    assert [len(instance.waiting) for instance in instances] == [2, 2, 2]
    for index in (1, 1, 2):
        instances[index].answer()
    start(servable, 1)
    assert [len(instance.waiting) for instance in instances] == [2, 1, 1]


def test_runs_one_after_the_other_take_turns():
    """Each would find the first instance free."""
    instances = [Held(), Held()]
    servable = InstancesServable(instances)
    used = []
    for _ in range(4):
        start(servable, 1)
        used.append([len(instance.waiting) for instance in instances].index(1))
        instances[used[-1]].answer()
    assert used == [0, 1, 0, 1]


def test_an_instance_that_does_not_answer_is_passed_over():
    hung, other = Held(), Held()
    servable = InstancesServable([hung, other])
    start(servable, 1)
    for _ in range(3):
        start(servable, 1)
        other.answer()
    assert (len(hung.waiting), len(other.waiting)) == (1, 0)


def test_an_instance_is_free_when_its_answer_is_given():
    """What follows from an answer, on the same thread, finds it so."""
    instances = [Held(), Held()]
    servable = InstancesServable(instances)
    servable.run({}, [], RunOptions(), lambda _: start(servable, 2))
    instances[0].answer()
    assert [len(instance.waiting) for instance in instances] == [1, 1]


def test_all_are_closed_though_one_can_not_be():
    instances = [FakeServable(), Unclosable(), FakeServable()]
    servable = InstancesServable(instances)
    with pytest.raises(RuntimeError):
        servable.close()
    assert [instance.closed for instance in instances] == [True] * 3


def test_a_lookup_table_is_on_the_processor(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n")
    platform = HashmapPlatform()
    assert platform.load(M1, str(tmp_path), CPU).signatures
    with pytest.raises(FailedPrecondition) as raised:
        platform.load(M1, str(tmp_path), GPUS[1])
    assert raised.value.message == (
        "{name: m version: 1} is to run on gpu:1, which its platform does not have here; "
        "it has cpu:0"
    )


def test_instances_that_are_bounded_are_so_together():
    """A run more than that would have its caller's thread wait."""

    class Bounded(FakeServable):
        max_runs = 2

    class Bounding(Failing):
        def load(
            self, servable_id: ServableId, path: str, device: Device | None = None
        ) -> Servable:
            return Bounded()

    three = load_instances(Bounding(), M1, "/m/1", InstanceOptions(3), Cancellation())
    assert max_runs_of(three) == 6
    two = load_instances(Failing(), M1, "/m/1", InstanceOptions(2), Cancellation())
    assert max_runs_of(two) is None
