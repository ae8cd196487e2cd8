"""Several instances of one version, each loaded on a device of its own, that share its runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from serving.core.errors import InvalidArgument, ServingError
from serving.core.graph_session import GraphSession, graph_session_of
from serving.core.servable import (
    BoundedServable,
    Outputs,
    RunCallback,
    RunOptions,
    Servable,
    Signature,
)
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.platforms import Platform


@dataclass(frozen=True, slots=True)
class InstanceOptions:
    """How often a version is loaded, and on which devices.

    ``count`` 0 is once for each of ``devices``, or once where there are none; then the platform
    chooses where. Raises InvalidArgument for a negative count.
    """

    count: int = 0
    devices: tuple[Device, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise InvalidArgument(f"instances_per_model must not be negative, but is {self.count}")

    @property
    def placements(self) -> Sequence[Device | None]:
        """The device of each instance, in turn from the list; None leaves it to the platform."""
        devices: Sequence[Device | None] = self.devices or (None,)
        return [devices[index % len(devices)] for index in range(self.count or len(devices))]


def load_instances(
    platform: Platform, servable_id: ServableId, path: str, options: InstanceOptions
) -> Servable:
    """Load one after the other; where one fails, those before it are closed and it raises.

    A single instance is served as it is, without anything around it.
    """
    with ExitStack() as loaded:
        instances = []
        for device in options.placements:
            servable = platform.load(servable_id, path, device)
            loaded.callback(servable.close)
            instances.append(servable)
        loaded.pop_all()
    if len(instances) == 1:
        return instances[0]
    bounds = [instance.max_runs for instance in instances if isinstance(instance, BoundedServable)]
    return BoundedInstances(instances, sum(bounds)) if bounds else InstancesServable(instances)


class InstancesServable:
    """Hands each run to the instance with the fewest runs in progress; implements Servable.

    Among those that have equally few they take turns. One whose run does not come back is passed
    over as long as others are free.
    """

    def __init__(self, instances: Sequence[Servable]) -> None:
        """``instances`` are alike, and this servable's from now on."""
        self.instances = instances
        self._lock = threading.Lock()
        self._in_progress = [0] * len(instances)
        self._next = 0

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self.instances[0].signatures

    @property
    def may_run_long(self) -> bool:
        """As each of them says, where the platform has them say so."""
        return getattr(self.instances[0], "may_run_long", False)

    @property
    def graph_session(self) -> GraphSession | None:
        """Of the first instance: what clients change in it shall be there when they look."""
        return graph_session_of(self.instances[0])

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        index = self._begin()
        self.instances[index].run(feeds, fetches, options, partial(self._ended, index, done))

    def close(self) -> None:
        """Close all of them, also where one fails; that one's error is raised."""
        with ExitStack() as closing:
            for instance in self.instances:
                closing.callback(instance.close)

    def _begin(self) -> int:
        with self._lock:
            count = len(self._in_progress)
            order = [(self._next + offset) % count for offset in range(count)]
            index = min(order, key=self._in_progress.__getitem__)
            self._next = (index + 1) % count
            self._in_progress[index] += 1
            return index

    def _ended(self, index: int, done: RunCallback, result: Outputs | ServingError) -> None:
        with self._lock:
            self._in_progress[index] -= 1
        done(result)

    def __repr__(self) -> str:
        return f"<InstancesServable of {len(self.instances)} {self.instances[0]!r}>"


class BoundedInstances(InstancesServable):
    """Instances each of which does so many runs at once; implements BoundedServable."""

    def __init__(self, instances: Sequence[Servable], max_runs: int) -> None:
        super().__init__(instances)
        self.max_runs = max_runs
