"""The servables that are batched, and how they follow their parameters when these change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

from serving.batching.batch_listener import BatchFormed, unheard
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.config.batching_parameters import Batching
from serving.core.clock import Clock
from serving.core.errors import ServingError
from serving.core.periodic import PeriodicThread
from serving.core.servable import Servable, instances_of
from serving.core.servable_id import ServableId

log = logging.getLogger(__name__)

_LEAST_SECONDS_TO_STOP = 1.0


class _Version(NamedTuple):
    id: ServableId
    path: str


class BatchedServables:
    """Puts batching around servables as they load; one scheduler for all. Thread-safe."""

    def __init__(
        self,
        batching: Batching,
        clock: Clock,
        on_batch: Callable[[ServableId, BatchFormed], None] | None = None,
    ) -> None:
        """``on_batch`` hears of every batch, on the thread that runs it."""
        self._batching = batching
        self._clock = clock
        self._on_batch = on_batch
        self._scheduler = SharedBatchScheduler(batching.scheduler, clock)
        self._parameters = threading.Lock()  # taken first; files are read while it is held
        self._lock = threading.Lock()
        self._versions: WeakKeyDictionary[BatchingServable, _Version] = WeakKeyDictionary()
        self._last_error = ""
        self._priority_listeners: list[Callable[[bool], None]] = []

    def start(
        self, poll_seconds: float, running: ExitStack, grace_left: Callable[[], float]
    ) -> None:
        """Have batch threads until ``running`` closes.

        For what is queued then they get the seconds that are left of the grace period, one at
        least. Parameters are read again every ``poll_seconds``; 0: only when :meth:`reload` is
        called.
        """
        self._scheduler.start()
        running.callback(lambda: self._scheduler.stop(max(_LEAST_SECONDS_TO_STOP, grace_left())))
        if poll_seconds > 0:
            poll = PeriodicThread("batching_parameters", self.reload, poll_seconds, self._clock)
            poll.start()
            running.callback(poll.stop)

    def wrap(
        self, servable_id: ServableId, path: str, servable: Servable, unbatched: Servable
    ) -> Servable:
        """What serves the version at ``path``: ``unbatched`` where its parameters ask for that.

        Raises InvalidArgument for parameters that are wrong.
        """
        with self._parameters:
            options = self._batching.options_for(path)
            if options is None:
                return unbatched
            log.info("Wrapping %s to perform batch processing", servable_id)
            self._look_at_threads_for(servable_id, servable)
            on_batch = partial(self._on_batch, servable_id) if self._on_batch else unheard
            batched = BatchingServable(
                servable,
                unbatched,
                self._scheduler,
                options,
                self._clock,
                on_batch=on_batch,
                on_close=self._forget,
            )
            with self._lock:
                self._versions[batched] = _Version(servable_id, path)
                self._tell_of_priorities()
            return batched

    def tell_of_priorities(self, honor: Callable[[bool], None]) -> None:
        """Call ``honor`` now, and after each load, unload and reload, with whether any version
        that is loaded looks at the priorities of requests.
        """
        with self._lock:
            self._priority_listeners.append(honor)
            self._tell_of_priorities()

    def waiting_rows(self) -> Mapping[ServableId, int]:
        """How many rows are queued for each version."""
        with self._lock:
            versions = list(self._versions.items())
        return {version.id: batched.waiting_rows() for batched, version in versions}

    def reload(self) -> None:
        """Read the parameters again and have what is loaded follow them.

        Requests that are queued already are processed as before. A version that was loaded without
        batching stays without, and one whose own file is gone keeps what it had. Parameters that
        are wrong change nothing; that is logged, once as long as it is for the same reason.
        """
        with self._parameters:
            with self._lock:
                loaded = list(self._versions.items())
            try:
                batching = self._batching.read_again()
                options = [batching.options_for(version.path) for _, version in loaded]
            except ServingError as error:
                if error.message != self._last_error:
                    log.error("batching goes on as before: %s", error)
                self._last_error = error.message
                return
            self._last_error = ""
            has_new_threads = batching.scheduler != self._batching.scheduler
            self._batching = batching
            if has_new_threads:
                self._scheduler.resize(batching.scheduler.num_batch_threads)
                for batched, version in loaded:
                    self._look_at_threads_for(version.id, batched)
            for (batched, _), new in zip(loaded, options, strict=True):
                if new is not None:
                    batched.reconfigure(new)
            with self._lock:
                self._tell_of_priorities()

    def _forget(self, batched: BatchingServable) -> None:
        with self._lock:
            self._versions.pop(batched, None)
            self._tell_of_priorities()

    def _tell_of_priorities(self) -> None:
        honors = any(batched.honors_priorities for batched in self._versions)
        for honor in self._priority_listeners:
            honor(honors)

    def _look_at_threads_for(self, servable_id: ServableId, servable: Servable) -> None:
        instances = len(instances_of(servable))
        threads = self._batching.scheduler.num_batch_threads
        if instances > threads:
            log.warning(
                "%s has %d instances, but num_batch_threads lets only %d batches run at once",
                servable_id,
                instances,
                threads,
            )
