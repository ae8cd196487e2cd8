"""How the process treats memory: large blocks stay at hand, unloaded models are given back."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading

from serving.core.clock import Clock
from serving.core.event_bus import EventBus, Subscription
from serving.core.periodic import PeriodicThread
from serving.core.servable_state import ManagerState, ServableState

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MMAP_BYTES = 32 * 2**20  # the most that glibc takes
_TRIM_BYTES = 128 * 2**20
_YOUNG_OBJECTS = 20_000  # more than what some hundred requests in progress consist of
_GATHER_SECONDS = 5.0  # a collection stops everybody, so one is to do for many unloads


def set_up() -> None:
    """Arrange memory for a server; call once, when all is imported and no model is loaded.

    The garbage collector looks at every object that is alive, again and again, while everybody
    waits. The hundred thousands that the imported libraries consist of never become garbage, so
    they are set aside. Those of models are not, since models are unloaded. Nor does it look at the
    requests in progress whenever a few more have come: with Python's threshold, 64 clients had it
    take a twentieth of a server's time, and it found nothing.

    glibc takes every block above 128 kB from the system and gives it back when it is freed, by
    default; for the tensors of a request, filling fresh pages costs more than anything else that
    is done with them. Blocks of up to 32 MiB are kept instead, and 128 MiB of free memory. Where
    MALLOC_ variables say otherwise, or another allocator is preloaded, they have their way.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
    libc = _glibc()
    if libc and not any(name.startswith("MALLOC_") for name in os.environ):
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


class MemoryReturn:
    """Gives the memory of unloaded versions back to the system, on a thread of its own.

    The objects that describe a graph refer to each other in circles, which only the collector
    frees; and what is freed stays in the process unless glibc is told.
    """

    def __init__(self, bus: EventBus[ServableState], clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._subscription: Subscription | None = None
        self._unloaded = False
        self._stopping = threading.Event()
        self._thread = PeriodicThread("memory", self._round, None, clock)

    def start(self) -> None:
        self._subscription = self._bus.subscribe(self._look)
        self._thread.start()

    def stop(self) -> None:
        if self._subscription:
            self._subscription.cancel()
        self._stopping.set()
        self._thread.stop()

    def give_back(self) -> None:
        """Free what is garbage, and return every free page to the system."""
        gc.collect()
        libc = _glibc()
        if libc:
            libc.malloc_trim(0)

    def _look(self, state: ServableState) -> None:
        if state.state is ManagerState.END:
            self._unloaded = True
            self._thread.wake()

    def _round(self) -> None:
        if not self._unloaded:
            return
        self._clock.wait(self._stopping, _GATHER_SECONDS)
        self._unloaded = False
        if not self._stopping.is_set():
            self.give_back()


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None
