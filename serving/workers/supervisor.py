"""The supervisor: keeps the ports and the workers, and serves nothing itself.

It holds no model and no machine-learning framework, so it is small, starts at once, and what
brings down a worker does not reach it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import NamedTuple

from serving.config.config_file_watcher import watch_config_file
from serving.config.model_config import configured_models
from serving.config.options import ServerOptions
from serving.core.back_off import BackOff
from serving.core.clock import SystemClock
from serving.core.errors import Internal, ServingError, Unavailable
from serving.core.main_thread import next_of
from serving.core.process_ending import ending
from serving.metrics.families import Snapshot
from serving.transport import tcp_port
from serving.workers.fleet import Fleet
from serving.workers.hang_watch import HangWatch
from serving.workers.replacements import replacements
from serving.workers.worker_process import WorkerProcess

log = logging.getLogger(__name__)

_SECONDS_BEYOND_GRACE = 10.0
"""What workers get to unload and end after the grace, before they are killed."""


def supervise(options: ServerOptions, log_level: str) -> int:
    """Serve with ``options.num_workers`` processes until SIGTERM or SIGINT.

    The first signal has every worker drain within the grace period, a second ends all at once.
    Returns the process's exit status. Raises ServingError when a port can not be had or a worker
    can not start.
    """
    # Hears that all workers serve, why one can not start, and of the first signal. Unlike an
    # Event, a SimpleQueue may be put to by a handler that interrupts its reader.
    events: SimpleQueue[ServingError | None] = SimpleQueue()
    with ExitStack() as running:
        shared = _reserve_ports(options, running)
        supervisor = _Supervisor(shared, log_level, events)
        stopping = False

        def on_signal(number: int, _frame: FrameType | None) -> None:
            nonlocal stopping
            if stopping:
                log.warning("second signal: ending without waiting")
                supervisor.send_all(signal.SIGKILL)
                os._exit(128 + number)
            stopping = True
            log.info("%s: draining and stopping", signal.Signals(number).name)
            events.put(None)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        running.callback(supervisor.stop)
        supervisor.start()
        _wait_for(events)
        if not stopping:
            log.info("%d workers serve", options.num_workers)
            fleet = supervisor.fleet
            watch_config_file(shared, fleet.begin_reload, fleet.configs, SystemClock(), running)
            _wait_for(events)
    log.info("stopped")
    return 0


class _Ending(NamedTuple):
    """How a life of a worker ended, in words, and what its replacement counts."""

    text: str
    counted: Snapshot = replacements()


class _Supervisor:
    """One thread for each worker starts it, waits for its end, and starts it again."""

    def __init__(
        self, options: ServerOptions, log_level: str, events: SimpleQueue[ServingError | None]
    ) -> None:
        self._events = events
        self._drain_seconds = options.drain_seconds
        self._hang_seconds = options.worker_hang_seconds
        self._clock = SystemClock()
        self._hang_watch = HangWatch(self._hang_seconds, self._clock)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._processes: dict[int, WorkerProcess] = {}
        self._threads = [
            threading.Thread(target=self._keep, args=(index,), name=f"worker {index}", daemon=True)
            for index in range(options.num_workers)
        ]
        self.fleet = Fleet(
            options,
            configured_models(options),
            log_level=log_level,
            clock=self._clock,
            on_started=events.put,
        )
        self.fleet.count(replacements())  # a counter that is there from the start shows its first

    def start(self) -> None:
        self._hang_watch.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have every worker drain; returns when the last has ended, if need be by force."""
        with self._lock:
            self._stopping.set()
        self._hang_watch.stop()
        self.send_all(signal.SIGTERM)
        until = self._clock.monotonic() + self._drain_seconds + _SECONDS_BEYOND_GRACE
        for thread in self._threads:
            thread.join(max(0.0, until - self._clock.monotonic()))
        self.send_all(signal.SIGKILL)

    def send_all(self, number: signal.Signals) -> None:
        """Takes no lock: a signal's handler may call it."""
        for process in list(self._processes.values()):
            process.send(number)

    def _keep(self, index: int) -> None:
        """Until the program stops there is such a worker, or soon one again."""
        back_off = BackOff(self._clock)
        while not self._stopping.is_set():
            back_off.started()
            life = self._run(index)
            if self._stopping.is_set():
                return
            if self.fleet.is_starting:
                self._events.put(Internal(f"{life.text} before it could serve"))
                return
            seconds = back_off.ended()
            log.error("%s; another starts in %g seconds", life.text, seconds)
            self.fleet.count(life.counted)
            self._clock.wait(self._stopping, seconds)

    def _run(self, index: int) -> _Ending:
        """One life of a worker, and how it ended."""
        name = f"worker {index}"
        try:
            with self._lock:
                # Whoever stops the program knows every process.
                if self._stopping.is_set():
                    return _Ending(f"{name} did not begin")
                process = self._processes[index] = WorkerProcess(name)
        except OSError as error:
            return _Ending(f"{name} can not have a process ({error.strerror})")
        log.info("%s is process %d", name, process.pid)
        member = self.fleet.admit(name, process.channel)
        is_serving = partial(self.fleet.is_serving, member)
        kill = partial(process.send, signal.SIGKILL)
        with self._hang_watch.watching(process.channel, is_serving, kill) as watched:
            status = process.wait()
        who = f"{name} (process {process.pid})"
        if watched.is_hung:
            text = f"{who} did not answer for {self._hang_seconds:g} seconds and was killed"
            return _Ending(text, replacements(hung=1))
        return _Ending(f"{who} {ending(status)}", replacements(ended=1))


def _reserve_ports(options: ServerOptions, running: ExitStack) -> ServerOptions:
    """The options with ports of this program's own, which are kept until ``running`` closes.

    A worker that ends takes its listening socket with it; the address stays.
    """
    grpc, http = options.grpc, options.http
    host, _, port = grpc.address.rpartition(":")
    try:
        reserved = tcp_port.reserve(host.removeprefix("[").removesuffix("]"), int(port))
    except OSError:
        raise Unavailable(
            f"gRPC cannot listen on {grpc.address}: it is in use, or is not an address of this host"
        ) from None
    running.enter_context(reserved)
    grpc = replace(grpc, address=f"{host}:{reserved.getsockname()[1]}", shared=True)
    if http:
        try:
            reserved = tcp_port.reserve(http.host, http.port)
        except OSError as error:
            where = f"{http.host or '[::]'}:{http.port}"
            log.error(
                "Failed to start HTTP Server: HTTP cannot listen on %s: %s", where, error.strerror
            )
            http = None
        else:
            running.enter_context(reserved)
            http = replace(http, port=reserved.getsockname()[1], shared=True)
    return replace(options, grpc=grpc, http=http)


def _wait_for(events: SimpleQueue[ServingError | None]) -> None:
    """Return at the next event, or raise it."""
    if error := next_of(events):
        raise error
