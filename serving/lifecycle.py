"""What a version goes through: the one place that introduces sources, loaders and managers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from serving.core.clock import Clock
from serving.core.errors import Internal
from serving.core.event_bus import EventBus
from serving.core.loader import Loader
from serving.core.model_config import ModelConfig
from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.core.source import AspiredVersions
from serving.core.source_adapter import UnarySourceAdapter, error_injecting
from serving.loaders.platforms import Platforms
from serving.loaders.remote_loader import RemoteLoader
from serving.loaders.simple_loader import InstancesOf, SimpleLoader, WarmUp, Wrap
from serving.managers.aspired_versions_manager import AspiredVersionsManager
from serving.managers.caching_manager import CachingManager
from serving.managers.loader_harness import RetryPolicy
from serving.managers.policies import (
    AspiredVersionPolicy,
    availability_preserving,
    preserving_everywhere,
    resource_preserving,
)
from serving.managers.resource_tracker import ResourceTracker
from serving.managers.servable_state_monitor import ServableStateMonitor
from serving.server_core_options import LifecycleOptions
from serving.sources.file_system_source import FileSystemStoragePathSource, MonitoredServable
from serving.sources.model_cache import ModelCache
from serving.sources.source_router import DynamicSourceRouter
from serving.sources.storage import is_remote
from serving.sources.version_contents import VersionContents

log = logging.getLogger(__name__)

_LOGGED = {
    ManagerState.LOADING: "Loading servable version",
    ManagerState.AVAILABLE: "Successfully loaded servable version",
    ManagerState.UNLOADING: "Unloading servable version",
    ManagerState.END: "Done unloading servable version",
}

_POLICIES: Mapping[str, AspiredVersionPolicy] = {
    "availability_preserving": availability_preserving,
    "resource_preserving": resource_preserving,
}


class Lifecycle:
    """The stream of each model: source → router → adapter of its platform → manager.

    Every step of a version is announced on ``bus`` and remembered by ``monitor``; ``source``
    knows what is wrong with base paths, ``manager`` lends what is loaded. Thread-safe, but for
    :meth:`follow`, which is called by one thread at a time.
    """

    def __init__(
        self,
        options: LifecycleOptions,
        platforms: Platforms,
        *,
        clock: Clock,
        wrap: Wrap,
        warm_up: WarmUp,
        instances_of: InstancesOf,
        is_everywhere: Callable[[ServableId], bool],
    ) -> None:
        """The arguments are those of :class:`ServerCore`."""
        self._options = options
        self._platforms = platforms
        self._wrap = wrap
        self._warm_up = warm_up
        self._instances_of = instances_of
        self._is_everywhere = is_everywhere
        self._routes: Mapping[str, str] = {}
        self.bus: EventBus[ServableState] = EventBus()
        self.bus.subscribe(_log_state)
        self._copies = ModelCache(options.model_cache, clock)
        self.monitor = ServableStateMonitor(self.bus, clock, max_ended=options.max_ended_versions)
        self.manager = self._make_manager(clock)
        self._router = self._make_router(self.manager.aspired_versions)
        self.source = self._make_source(clock)
        self.source.connect(self._router.aspired_versions)
        self.bus.subscribe(self._tell_source)

    def start(self) -> None:
        """Load what :meth:`follow` will name, with the threads of the first round."""
        self._copies.start()
        self.manager.start()
        self.manager.set_num_load_threads(self._options.num_initial_load_threads)

    def end_first_round(self) -> None:
        """Load with the threads of later rounds."""
        self.manager.set_num_load_threads(self._num_load_threads())

    def stop(self) -> None:
        """Find no more versions, unload all; returns when nothing is left in memory."""
        self.source.stop()
        self._copies.stop()
        self.manager.stop()
        self.monitor.close()

    def follow(self, configs: Sequence[ModelConfig]) -> None:
        """Look for the versions of these models from now on, and of no others."""
        routes = {config.name: config.platform for config in configs}
        # What is dropped is still on its way, and needs its route for that.
        self._router.update_routes({**self._routes, **routes})
        self._routes = routes
        self.source.update(
            [
                MonitoredServable(config.name, config.base_path, config.version_policy)
                for config in configs
            ]
        )

    def _make_manager(self, clock: Clock) -> AspiredVersionsManager | CachingManager:
        options = self._options
        limit = ResourceAllocation()
        if options.total_model_memory_limit_bytes:
            limit = ResourceAllocation.ram(options.total_model_memory_limit_bytes)
        if options.load_on_first_request:
            return CachingManager(
                bus=self.bus,
                clock=clock,
                limit=limit,
                num_load_threads=self._num_load_threads(),
                num_unload_threads=options.num_unload_threads,
            )
        return AspiredVersionsManager(
            bus=self.bus,
            clock=clock,
            tracker=ResourceTracker(limit),
            retry=RetryPolicy(options.max_num_load_retries, options.load_retry_interval_seconds),
            policy=self._policy(),
            num_load_threads=options.num_load_threads,
            num_unload_threads=options.num_unload_threads,
        )

    def _policy(self) -> AspiredVersionPolicy:
        policy = _POLICIES[self._options.aspired_version_policy]
        if policy is resource_preserving:
            return policy
        return preserving_everywhere(policy, self._is_everywhere)

    def _num_load_threads(self) -> int:
        """Where clients wait for loads, all of them are the first round."""
        options = self._options
        if options.load_on_first_request and not options.num_load_threads:
            return options.num_initial_load_threads
        return options.num_load_threads

    def _make_router(self, target: AspiredVersions[Loader]) -> DynamicSourceRouter[str]:
        ports: dict[str, AspiredVersions[str]] = {}
        for platform in self._platforms:
            adapter = UnarySourceAdapter(partial(self._make_loader, platform))
            adapter.connect(target)
            ports[platform] = adapter.aspired_versions
        no_platform: UnarySourceAdapter[str, Loader] = error_injecting(
            Internal("No platform found for model")
        )
        no_platform.connect(target)
        return DynamicSourceRouter(ports, no_platform.aspired_versions)

    def _make_source(self, clock: Clock) -> FileSystemStoragePathSource:
        """Without a second look a version can not settle: then it is taken as it is."""
        interval = self._options.file_system_poll_wait_seconds
        settle_seconds = self._options.version_settle_seconds if interval > 0 else 0
        contents = VersionContents(clock, settle_seconds, self._options.version_marker_file)
        return FileSystemStoragePathSource(interval, clock, contents, self.monitor.look_again)

    def _tell_source(self, state: ServableState) -> None:
        if state.error:
            self.source.report_failure(state.id)
        elif state.state is ManagerState.AVAILABLE:
            self.source.report_success(state.id)

    def _make_loader(self, platform: str, path: str) -> Loader:
        """A version that lies elsewhere is copied here by its load, and loaded from there."""
        if is_remote(path):
            num_instances = len(self._instances_of(path).placements)
            make_loader = partial(self._make_local_loader, platform)
            return RemoteLoader(path, self._copies, make_loader, num_instances)
        return self._make_local_loader(platform, path)

    def _make_local_loader(self, platform: str, path: str) -> Loader:
        get = partial(self._platforms.get, platform)
        return SimpleLoader(path, get, self._wrap, self._warm_up, self._instances_of)


def _log_state(state: ServableState) -> None:
    """In the words that operators of TensorFlow Serving search their logs for."""
    if state.error:
        log.error("Loading servable: %s failed: %s", state.id, state.error)
    elif state.state in _LOGGED:
        log.info("%s %s", _LOGGED[state.state], state.id)
