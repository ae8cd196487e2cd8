"""The configured models: found, loaded and lent as the configuration in force says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Protocol

from serving.awaited_models import AwaitedModels
from serving.config_check import check_configs
from serving.core.clock import Clock
from serving.core.errors import InvalidArgument, NotFound, ServingError, Unknown
from serving.core.main_thread import wait_until_set
from serving.core.model_config import ModelConfig
from serving.core.models import Leased, ModelSpec
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState
from serving.lifecycle import Lifecycle
from serving.loaders.platforms import Platforms
from serving.loaders.simple_loader import InstancesOf, WarmUp, Wrap, one_instance
from serving.managers.aspired_versions_manager import AspiredVersionsManager
from serving.managers.caching_manager import CachingManager
from serving.server_core_options import LifecycleOptions
from serving.sources.storage import is_remote
from serving.version_labels import Labels, VersionLabels


class ConfigFollower(Protocol):
    """Goes by what configurations say that is not about finding and loading. Not thread-safe."""

    def check(self, configs: Sequence[ModelConfig]) -> None:
        """Raise a ServingError for a configuration that can not be followed."""

    def apply(self, configs: Sequence[ModelConfig]) -> None:
        """Follow a configuration that was checked from now on; does not raise."""


class ServerCore:
    """Serves a configuration of models: finds, loads, lends and unloads them. Thread-safe.

    Every step of a version is announced on ``bus``.
    """

    def __init__(
        self,
        options: LifecycleOptions,
        platforms: Platforms,
        *,
        clock: Clock,
        wrap: Wrap = lambda _id, _path, servable: servable,
        warm_up: WarmUp = lambda _id, _path, _servable, _cancellation: None,
        instances_of: InstancesOf = one_instance,
        on_reload: Callable[[], None] | None = None,
        follower: ConfigFollower | None = None,
        is_everywhere: Callable[[ServableId], bool] = lambda _id: True,
    ) -> None:
        """``wrap`` is put around every servable as it loads, then ``warm_up`` runs what is to run
        before it serves; by default nothing is done.
        ``instances_of`` says, of a version's path, in how many instances it is loaded.
        ``on_reload`` is called with every configuration that comes into force after the first,
        ``follower`` with that one, too.

        Where other processes serve the same models, ``is_everywhere`` tells whether a version is
        available in all of them; :meth:`reconsider` is called when that has changed.
        """
        self._on_reload = on_reload or (lambda: None)
        self._follower = follower
        self._platforms = platforms
        self._clock = clock
        self._polls = options.file_system_poll_wait_seconds >= 0
        self._reloading = threading.Lock()
        self._configs: Mapping[str, ModelConfig] = {}
        self._labels = VersionLabels(
            allow_unavailable=options.allow_version_labels_for_unavailable_models
        )
        self._lifecycle = Lifecycle(
            options,
            platforms,
            clock=clock,
            wrap=wrap,
            warm_up=warm_up,
            instances_of=instances_of,
            is_everywhere=is_everywhere,
        )
        self.bus = self._lifecycle.bus
        self._monitor = self._lifecycle.monitor
        self._manager = self._lifecycle.manager
        self._source = self._lifecycle.source

    def start(self, configs: Sequence[ModelConfig]) -> None:
        """Serve these models; returns when each has loaded, failed, or has no version to load.

        Raises Unknown when a model failed for good, and what :meth:`begin_reload` raises. A model
        whose base path is missing or empty is served as soon as a version appears.
        """
        self._lifecycle.start()
        with self._reloading:
            since = self._monitor.now()
            self._apply(configs)
            self._source.start()
        awaited = self._awaited(list(self._configs), since)
        settled = threading.Event()
        awaited.when_ended(settled.set)
        wait_until_set(settled)
        self._lifecycle.end_first_round()
        if failed := awaited.failures():
            raise Unknown(_did_not_become_available("servable", failed))

    def begin_reload(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        """Serve these models from now on; ``done`` hears when the newly named ones are available.

        Versions whose load failed are tried once more. Raises InvalidArgument or
        FailedPrecondition for a configuration that is refused (nothing changes then). ``done``
        hears Unknown when a new model failed or has no version (the rest is in force).
        """
        with self._reloading:
            since = self._monitor.now()
            new = [config.name for config in configs if config.name not in self._configs]
            self._apply(configs, retry_failed=True)
            self._on_reload()
        awaited = self._awaited(new, since)

        def tell() -> None:
            failed, lost = awaited.failures(), awaited.lost()
            missing = [f"{{name: {name}}} {_due_to(problem)}" for name, problem in lost.items()]
            text = _did_not_become_available("model", failed, missing)
            done(Unknown(text) if failed or missing else None)

        awaited.when_ended(tell)

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """The blocking face of :meth:`begin_reload`; raises what it tells."""
        outcome: SimpleQueue[ServingError | None] = SimpleQueue()
        self.begin_reload(configs, outcome.put)
        if error := outcome.get():
            raise error

    def check(self, configs: Sequence[ModelConfig]) -> None:
        """Raise what :meth:`begin_reload` would, now, for a configuration that is refused."""
        self._allowed_labels(configs)

    def reconsider(self, name: str) -> None:
        """Whether one of this model's versions is available in all processes has changed."""
        if isinstance(self._manager, AspiredVersionsManager):
            self._manager.reconsider(name)

    def stop(self) -> None:
        """Find no more versions, unload all; returns when nothing is left in memory."""
        self._lifecycle.stop()

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        """Lend the version that ``spec`` resolves to; see :class:`core.models.Models`."""
        try:
            handle: ServableHandle | ServingError = self._lease(spec)
        except ServingError as error:
            if isinstance(error, NotFound) and isinstance(self._manager, CachingManager):
                self._lease_when_loaded(self._manager, spec, deadline, leased)
                return
            handle = error.untraced()
        leased(handle)

    def _lease(self, spec: ModelSpec) -> ServableHandle:
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        if spec.version_label is not None:
            return self._lease_by_label(spec.name, spec.version_label)
        return self._manager.servable(ServableRequest(spec.name, spec.version))

    def names(self) -> Sequence[str]:
        """As :meth:`core.models.Models.names`."""
        return list(self._configs)

    def versions(self, name: str) -> Sequence[ServableState]:
        """As :meth:`core.models.Models.versions`."""
        states = self._monitor.versions(name)
        problem = None if states else self._source.problems.get(name)
        if problem:
            raise NotFound(f"Could not find any versions of model {name}: {problem.message}")
        return states

    def configs(self) -> Sequence[ModelConfig]:
        """The configuration in force."""
        return list(self._configs.values())

    def available(self) -> Sequence[ServableId]:
        """Every version that can be looked up now."""
        return self._manager.available()

    def aspires_to(self, servable_id: ServableId) -> bool:
        """Whether this version is to be served, also where its load has failed."""
        if isinstance(self._manager, CachingManager):
            return servable_id in self._manager.offered()
        return self._manager.aspires_to(servable_id)

    def origin(self, servable_id: ServableId, path: str) -> str:
        """Where a version lies that was loaded from ``path``: a remote one from a copy of it."""
        config = self._configs.get(servable_id.name)
        if config is None or not is_remote(config.base_path):
            return path
        return f"{config.base_path.rstrip('/')}/{servable_id.version}"

    def is_answering(self, name: str, version: int | None = None) -> bool | None:
        """Whether requests for the model, or for one version of it, are answered now; None where
        neither the configuration nor any version is known. Changes with the events of ``bus``.
        """
        states = [s for s in self._monitor.versions(name) if version in (None, s.id.version)]
        if isinstance(self._manager, CachingManager):
            offered = set(self._manager.offered())
            is_answered = any(state.id in offered for state in states)
        else:
            is_answered = any(state.state is ManagerState.AVAILABLE for state in states)
        is_known = states or (version is None and name in self._configs)
        return is_answered if is_known else None

    def model_names(self) -> Sequence[str]:
        """The models of the configuration in force."""
        return list(self._configs)

    def can_serve(self) -> bool:
        """Whether any configured model can be asked for; so it is, too, where none is configured:
        clients that configure some must get through.
        """
        names = list(self._configs)
        return not names or any(self._is_served(name) for name in names)

    def _lease_by_label(self, name: str, label: str) -> ServableHandle:
        """Looks the label up again when a reload moved it and dropped the version meanwhile.

        That ends: every further look needs a further reload.
        """
        while True:
            in_force = self._labels.in_force
            version = self._labels.resolve(name, label)
            try:
                return self._manager.servable(ServableRequest(name, version))
            except NotFound:
                if self._labels.in_force is in_force:
                    raise

    def _lease_when_loaded(
        self, manager: CachingManager, spec: ModelSpec, deadline: float | None, leased: Leased
    ) -> None:
        """Looks the label up again, as above, when it moved during the load."""
        in_force = self._labels.in_force
        version = spec.version

        def ended(outcome: ServableHandle | ServingError) -> None:
            if isinstance(outcome, NotFound) and self._labels.in_force is not in_force:
                self.lease(spec, deadline, leased)
            else:
                leased(outcome)

        try:
            if spec.version_label is not None:
                version = self._labels.resolve(spec.name, spec.version_label)
        except ServingError as error:
            leased(error)
        else:
            manager.lend(ServableRequest(spec.name, version), deadline, ended)

    def _apply(self, configs: Sequence[ModelConfig], *, retry_failed: bool = False) -> None:
        """Check everything first, then change everything and look for versions at once."""
        labels = self._allowed_labels(configs)
        # Before any version is dropped: a label must not lead to one that is on its way out.
        self._labels.replace(labels)
        self._lifecycle.follow(configs)
        self._configs = {config.name: config for config in configs}
        if self._follower:
            self._follower.apply(configs)
        if retry_failed:
            self._source.retry_failed()
        if self._polls:
            self._source.poll_once()

    def _allowed_labels(self, configs: Sequence[ModelConfig]) -> Labels:
        """The labels of a configuration in which nothing is wrong."""
        check_configs(configs, self._configs, self._platforms)
        if self._follower:
            self._follower.check(configs)
        return self._labels.check(configs, set(self._servable()).__contains__)

    def _servable(self) -> Sequence[ServableId]:
        """What a label may name: what a request can reach, though it may have to load first."""
        if isinstance(self._manager, CachingManager):
            return self._manager.offered()
        return self._manager.available()

    def _is_served(self, name: str) -> bool:
        if isinstance(self._manager, CachingManager):
            return self._manager.is_offered(name)
        return self._manager.serves(name)

    def _awaited(self, names: Sequence[str], since: int) -> AwaitedModels:
        """What is to be waited for: nothing, where nobody looks."""
        return AwaitedModels(
            names if self._polls else [],
            since,
            monitor=self._monitor,
            is_served=self._is_served,
            problems=lambda: self._source.problems,
            is_configured=lambda name: name in self._configs,
            clock=self._clock,
        )


def _due_to(error: ServingError | None) -> str:
    return f"due to error: {error}"


def _did_not_become_available(
    what: str, failed: Sequence[ServableState], missing: Sequence[str] = ()
) -> str:
    """The text of TensorFlow Serving, which counts versions and lists each with its error."""
    reasons = [f"{state.id} {_due_to(state.error)}" for state in failed] + list(missing)
    listed = "".join(f"{{{reason}}}, " for reason in reasons)
    return f"{len(reasons)} {what}(s) did not become available: {{{listed}}}"
