"""The loader for every platform that can load a path in one go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.core.cancellation import Cancellation
from serving.core.errors import Gone, ServingError
from serving.core.resources import ResourceAllocation
from serving.core.servable import Servable
from serving.core.servable_id import ServableId
from serving.loaders.instances import InstanceOptions, load_instances
from serving.loaders.platform import Platform

Wrap = Callable[[ServableId, str, Servable], Servable]
"""Puts something around what a path held, batching for one; what it returns is what serves."""

WarmUp = Callable[[ServableId, str, Servable, Cancellation], None]
"""Runs what is to be run before the servable serves; raises where the version is not to serve.

The cancellation comes when the load is not wanted any more.
"""

InstancesOf = Callable[[str], InstanceOptions]
"""In how many instances the version at a path is loaded; raises ServingErrors."""


def one_instance(_path: str) -> InstanceOptions:
    """One for every version, wherever its platform runs models."""
    return InstanceOptions()


class SimpleLoader:
    """Loads one version of one platform from one path. The manager serialises the calls.

    Raises what the platform raises, and Gone when the path is not there any more.
    """

    def __init__(
        self,
        path: str,
        platform: Callable[[], Platform],
        wrap: Wrap,
        warm_up: WarmUp = lambda _id, _path, _servable, _cancellation: None,
        instances_of: InstancesOf = one_instance,
    ) -> None:
        """``platform`` is a function so that making a loader imports no framework."""
        self._path = path
        self._instances_of = instances_of
        self._platform = platform
        self._wrap = wrap
        self._warm_up = warm_up
        self._cancellation = Cancellation()
        self._servable: Servable | None = None
        self._estimate: ResourceAllocation | None = None

    def estimate_resources(self) -> ResourceAllocation:
        """The platform's estimate, for each instance; asked for once, and anew after a load that
        failed.
        """
        if self._estimate is None:
            with self._noticing_absence():
                count = len(self._instances_of(self._path).placements)
                one = self._platform().estimate(self._path)
                self._estimate = sum([one] * count, ResourceAllocation())
        return self._estimate

    def load(self, servable_id: ServableId) -> None:
        """Load all instances, wrap and warm up; when any of it fails, nothing stays loaded."""
        estimate, self._estimate = self._estimate, None
        self._cancellation = Cancellation()
        with self._noticing_absence():
            options = self._instances_of(self._path)
            servable = load_instances(
                self._platform(), servable_id, self._path, options, self._cancellation
            )
        try:
            servable = self._wrap(servable_id, self._path, servable)
            self._warm_up(servable_id, self._path, servable, self._cancellation)
        except BaseException:
            servable.close()
            raise
        self._servable, self._estimate = servable, estimate

    def cancel_load(self) -> None:
        """Ends the warm-up early, and the load after an instance; that one's load is finished."""
        self._cancellation.cancel()

    def unload(self) -> None:
        """Close the servable and let go of it."""
        servable, self._servable = self._servable, None
        if servable is not None:
            servable.close()

    @contextmanager
    def _noticing_absence(self) -> Iterator[None]:
        """Each platform has words and a code of its own for files that are not there."""
        try:
            yield
        except Exception as error:
            if os.path.lexists(self._path):
                raise
            if isinstance(error, ServingError):
                raise Gone(error.message) from error
            raise Gone("the version is not there any more") from error

    @property
    def servable(self) -> Servable | None:
        return self._servable
