"""What holds the platforms of others to what they promise."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from serving.core.errors import Internal, ServingError
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs, RunCallback, RunOptions, Servable
from serving.core.servable_id import ServableId
from serving.core.servable_wrapper import ServableWrapper
from serving.loaders.device import Device
from serving.loaders.platform import Platform, devices_of

log = logging.getLogger(__name__)

_FAILED = "the run failed unexpectedly"


class GuardedPlatform:
    """A Platform around another, whose servables answer every run whatever happens."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @property
    def devices(self) -> Sequence[Device]:
        """Those of the platform."""
        return devices_of(self._platform)

    def estimate(self, path: str) -> ResourceAllocation:
        return self._platform.estimate(path)

    def load(self, servable_id: ServableId, path: str, device: Device | None = None) -> Servable:
        return GuardedServable(servable_id, self._platform.load(servable_id, path, device))


class GuardedServable(ServableWrapper):
    """Around a servable that may have defects: what it raises, and what it answers that is no
    array, is logged and becomes INTERNAL without its text. Only its first answer counts.
    """

    def __init__(self, servable_id: ServableId, servable: Servable) -> None:
        super().__init__(servable)
        self._id = servable_id

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        pending = [done]

        def answer(result: Outputs | ServingError) -> None:
            try:
                receiver = pending.pop()  # one thread gets it, whoever else answers meanwhile
            except IndexError:
                log.error("%s answered a run that it had answered before", self._id)
            else:
                receiver(self._checked(result))

        try:
            self._servable.run(feeds, fetches, options, answer)
        except Exception:
            if not pending:
                raise  # the receiver's own, for whoever has called
            log.exception("a run of %s failed", self._id)
            answer(Internal(_FAILED))

    def _checked(self, result: Outputs | ServingError) -> Outputs | ServingError:
        if isinstance(result, ServingError):
            return result
        if isinstance(result, Sequence) and all(isinstance(each, np.ndarray) for each in result):
            return result
        log.error("a run of %s gave what is no list of arrays", self._id)
        return Internal(_FAILED)
