"""Several instances of one version, each loaded on a device of its own, that share its runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from serving.core.cancellation import Cancellation
from serving.core.errors import Cancelled, InvalidArgument, ServingError
from serving.core.servable import (
    Outputs,
    RunCallback,
    RunOptions,
    Servable,
    Signature,
    instances_of,
)
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.platform import Platform

_MOST_INSTANCES = 256
"""More than that is a slip: each is loaded by itself and has its own memory."""


@dataclass(frozen=True, slots=True)
class InstanceOptions:
    """How often a version is loaded, and on which devices.

    ``count`` 0 is once for each of ``devices``, or once where there are none; then the platform
    chooses where. Raises InvalidArgument for a count that is negative or above 256.
    """

    count: int = 0
    devices: tuple[Device, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise InvalidArgument(f"instances_per_model must not be negative, but is {self.count}")
        if self.count > _MOST_INSTANCES:
            raise InvalidArgument(
                f"instances_per_model must be at most {_MOST_INSTANCES}, but is {self.count}"
            )

    @property
    def placements(self) -> Sequence[Device | None]:
        """The device of each instance, in turn from the list; None leaves it to the platform."""
        devices: Sequence[Device | None] = self.devices or (None,)
        return [devices[index % len(devices)] for index in range(self.count or len(devices))]


def load_instances(
    platform: Platform,
    servable_id: ServableId,
    path: str,
    options: InstanceOptions,
    cancellation: Cancellation,
) -> Servable:
    """Load one after the other; where one fails, those before it are closed and it raises.

    Raises Cancelled between two of them once the load is not wanted any more. A single instance is
    served as it is, without anything around it.
    """
    with ExitStack() as loaded:
        instances: list[Servable] = []
        for device in options.placements:
            if instances and cancellation.cancelled:
                raise Cancelled("Loading of servable cancelled")
            servable = platform.load(servable_id, path, device)
            loaded.callback(servable.close)
            instances.append(servable)
        loaded.pop_all()
    return instances[0] if len(instances) == 1 else InstancesServable(instances)


class InstancesServable:
    """Hands each run to the instance with the fewest runs in progress; implements Servable.

    Among those that have equally few they take turns. One whose run does not come back is passed
    over as long as others are free.
    """

    def __init__(self, instances: Sequence[Servable]) -> None:
        """``instances`` are alike, and this servable's from now on."""
        self._loaded = instances
        self._lock = threading.Lock()
        self._in_progress = [0] * len(instances)
        self._next = 0

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._loaded[0].signatures

    @property
    def instances(self) -> Sequence[Servable]:
        """Without what is around them."""
        return [instance for loaded in self._loaded for instance in instances_of(loaded)]

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        index = self._begin()
        self._loaded[index].run(feeds, fetches, options, partial(self._ended, index, done))

    def close(self) -> None:
        """Close all of them, also where one fails; that one's error is raised."""
        with ExitStack() as closing:
            for instance in self._loaded:
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
        return f"<InstancesServable of {len(self._loaded)} {self._loaded[0]!r}>"
