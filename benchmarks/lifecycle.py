"""What the lifecycle costs: look-ups under swaps, a new version's way to AVAILABLE, many models,
and the look-up that loads.

    .venv/bin/python benchmarks/lifecycle.py [--models=1000] [--seconds=1]

Models are lookup tables of one row, which load in microseconds, so that what is measured is the
lifecycle and not the load. Prints four tables; every number is the median of the rounds.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from servers import resident_bytes
from serving.core.clock import SystemClock
from serving.core.errors import ServingError
from serving.core.event_bus import EventBus
from serving.core.model_config import LatestVersions, ModelConfig
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId, ServableRequest
from serving.core.servable_state import ManagerState, ServableState
from serving.loaders.hashmap_loader import HashmapPlatform
from serving.loaders.platforms import Platforms
from serving.managers.caching_manager import CachingManager
from serving.managers.serving_map import ServingMap
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions
from serving.sources.file_system_source import FileSystemStoragePathSource, MonitoredServable
from serving.testing import FakeLoader, FakeServable

ROUNDS = 5
COLD_LOOK_UPS = 100


def median(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(ROUNDS))


def write_version(base: Path, version: int) -> None:
    """A lookup table, renamed into place when it is whole."""
    unfinished = base / "unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "table.csv").write_text("key,value\n")
    unfinished.rename(base / str(version))


def look_ups(num_threads: int, seconds: float, *, with_writer: bool) -> float:
    """Nanoseconds of one look-up and release, per thread, while versions are swapped."""
    served, stop = ServingMap(), threading.Event()
    served.insert(ServableId("m", 0), FakeServable())
    request, counts = ServableRequest("m"), [0] * num_threads

    def read(index: int) -> None:
        done = 0
        while not stop.is_set():
            for _ in range(100):
                served.servable(request).release()
            done += 100
        counts[index] = done

    def swap() -> None:
        version = 0
        while not stop.wait(0.001):
            version += 1
            served.insert(ServableId("m", version), FakeServable())
            served.remove(ServableId("m", version - 1), lambda: None)

    threads = [threading.Thread(target=read, args=(index,)) for index in range(num_threads)]
    threads += [threading.Thread(target=swap)] if with_writer else []
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - started) * 1e9 / sum(counts)


def load_itself(base: Path, version: int) -> float:
    """Seconds that the platform takes to estimate and load, with nothing around it."""
    platform, path = HashmapPlatform(), str(base / str(version))
    started = time.perf_counter()
    platform.estimate(path)
    platform.load(ServableId("m", version), path)
    return time.perf_counter() - started


def options(**changes: object) -> LifecycleOptions:
    return LifecycleOptions(**changes)  # type: ignore[arg-type]  # names are checked by the class


def appearances(settle_seconds: float) -> tuple[float, float]:
    """Milliseconds from a rename to AVAILABLE above the load: the median, and without the poll."""
    heard: dict[int, tuple[threading.Event, list[float]]] = {}
    above: list[float] = []
    after_poll: list[float] = []

    def hear(state: ServableState) -> None:
        times = heard.setdefault(state.id.version, (threading.Event(), []))
        times[1].append(time.perf_counter())
        if state.state is ManagerState.AVAILABLE:
            times[0].set()

    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        write_version(base, 1)
        core = ServerCore(
            options(version_settle_seconds=settle_seconds), Platforms({}), clock=SystemClock()
        )
        core.start([ModelConfig("m", directory, "hashmap")])
        core.bus.subscribe(hear)
        for version in range(2, 2 + ROUNDS):
            reached, times = heard.setdefault(version, (threading.Event(), []))
            write_version(base, version)
            appeared = time.perf_counter()
            reached.wait()
            load = load_itself(base, version)
            above.append(times[-1] - appeared - load)
            after_poll.append(times[-1] - times[0] - load)
        core.stop()
    return statistics.median(above) * 1e3, statistics.median(after_poll) * 1e3


def many_models(count: int) -> tuple[float, float, float, float]:
    """Per model, of many at once: µs to start above the load, µs of the load, kB, µs of a poll."""
    with tempfile.TemporaryDirectory() as directory:
        bases = [Path(directory) / f"model_{index}" for index in range(count)]
        for base in bases:
            write_version(base, 1)
        load = sum(load_itself(base, 1) for base in bases)
        memory = resident_bytes(os.getpid())
        core = ServerCore(
            options(version_settle_seconds=1, file_system_poll_wait_seconds=3600),
            Platforms({}),
            clock=SystemClock(),
        )
        time.sleep(1)  # so that the versions have settled
        started = time.perf_counter()
        core.start([ModelConfig(base.name, str(base), "hashmap") for base in bases])
        start = time.perf_counter() - started
        memory = resident_bytes(os.getpid()) - memory
        if len(core.available()) != count:
            raise SystemExit(f"only {len(core.available())} of {count} models are available")
        poll = poll_seconds(bases)
        core.stop()
    per = 1 / count
    return (start - load) * per * 1e6, load * per * 1e6, memory * per / 1e3, poll * per * 1e6


def poll_seconds(bases: Sequence[Path]) -> float:
    """One poll of a source that watches all of these, with nobody behind it."""
    source = FileSystemStoragePathSource(-1, SystemClock())
    source.connect(lambda _name, _versions: None)
    source.update([MonitoredServable(base.name, str(base), LatestVersions()) for base in bases])
    return median(lambda: timed(source.poll_once))


class Room(NamedTuple):
    """Of how many models with one byte each there is room for how many."""

    models: int
    limit: int


def cold_look_ups(room: Room) -> tuple[float, float]:
    """Of a look-up that loads: µs on the caller's thread, and µs until it is answered.

    As many models as fit are loaded and in use before, but for those looked up where all fit.
    """
    clock = SystemClock()
    manager = CachingManager(bus=EventBus(), clock=clock, limit=ResourceAllocation.ram(room.limit))
    requests = [ServableRequest(f"model_{index}") for index in range(room.models)]
    loaders = [FakeLoader(resources=ResourceAllocation.ram(1)) for _ in requests]
    for request, loader in zip(requests, loaders, strict=True):
        manager.aspired_versions(request.name, [ServableData(ServableId(request.name, 1), loader)])
    manager.start()
    cold = requests[-COLD_LOOK_UPS:]
    for request in requests[:-COLD_LOOK_UPS]:
        look_up(manager, request)
    times = [look_up(manager, request) for request in cold]
    manager.stop()
    on_thread, answered = zip(*times, strict=True)
    return statistics.median(on_thread) * 1e6, statistics.median(answered) * 1e6


def look_up(manager: CachingManager, request: ServableRequest) -> tuple[float, float]:
    """Seconds until the call returns, and until it is answered."""
    answers: SimpleQueue[tuple[float, ServableHandle | ServingError]] = SimpleQueue()
    started = time.perf_counter()
    manager.lend(request, None, lambda outcome: answers.put((time.perf_counter(), outcome)))
    returned = time.perf_counter()
    answered, outcome = answers.get()
    if isinstance(outcome, ServingError):
        raise SystemExit(f"{request} was not lent: {outcome}")
    outcome.release()
    return returned - started, answered - started


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the lifecycle costs.")
    parser.add_argument("--models", type=int, default=1000, help="how many to configure at once")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a look-up round")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)

    print("look-up of a handle and its release, ns; the writer swaps versions every millisecond")
    print(f"{'threads':>8} {'no writer':>10} {'writer':>10} {'ratio':>6}")
    for threads in (1, 2, 8):
        still = look_ups(threads, arguments.seconds, with_writer=False)
        swapped = look_ups(threads, arguments.seconds, with_writer=True)
        print(f"{threads:>8} {still:>10.0f} {swapped:>10.0f} {swapped / still:>6.2f}")

    print("\nfrom a directory's rename to AVAILABLE above the load itself, ms; polled every second")
    print(f"{'settle s':>8} {'in all':>10} {'from START on':>14}")
    for settle in (0.0, 1.0):
        in_all, from_start = appearances(settle)
        print(f"{settle:>8.0f} {in_all:>10.0f} {from_start:>14.1f}")

    print(f"\n{arguments.models} models at once, per model")
    start, load, memory, poll = many_models(arguments.models)
    print(f"{'start above load µs':>20} {'load itself µs':>15} {'memory kB':>10} {'poll µs':>8}")
    print(f"{start:>20.0f} {load:>15.0f} {memory:>10.1f} {poll:>8.1f}")

    print(f"\na look-up that loads, of {arguments.models} models, µs")
    print(f"{'room for':>10} {'on the thread that asks':>24} {'until answered':>15}")
    for loaded in (2 * arguments.models, arguments.models - COLD_LOOK_UPS):
        on_thread, answered = cold_look_ups(Room(arguments.models, loaded))
        print(f"{loaded:>10} {on_thread:>24.0f} {answered:>15.0f}")


if __name__ == "__main__":
    main()
