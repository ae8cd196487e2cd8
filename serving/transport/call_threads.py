"""The threads that run gRPC calls: those that wait for long never take one from the others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_NUM_CONTROL_THREADS = 16  # a waiting call costs a thread's stack and nothing else
_NUM_HEALTH_THREADS = 2  # a check never waits for anything but its own request
_NUM_SENDERS = 32  # a client that watches and takes nothing holds one
_NUM_REFLECTION_THREADS = 4  # each stream holds one for as long as its client keeps it open


class CallThreads:
    """One pool for each kind of call. A thread starts when a call first needs it."""

    def __init__(self, max_threads: int) -> None:
        self.calls = ThreadPoolExecutor(max_threads, "grpc")
        self.control = ThreadPoolExecutor(_NUM_CONTROL_THREADS, "grpc-control")
        self.health = ThreadPoolExecutor(_NUM_HEALTH_THREADS, "grpc-health")
        self.senders = ThreadPoolExecutor(_NUM_SENDERS, "grpc-send")
        self.reflection = ThreadPoolExecutor(_NUM_REFLECTION_THREADS, "grpc-reflection")
        self.refusal = ThreadPoolExecutor(1, "grpc-refusal")

    def shutdown(self) -> None:
        """Take no more calls; do not wait for those that run."""
        pools = (self.calls, self.control, self.health)
        for pool in (*pools, self.senders, self.reflection, self.refusal):
            pool.shutdown(wait=False)


class OnPool:
    """A behavior that gRPC runs on a thread of ``pool``, not on one of the server's own.

    A ``non_blocking`` behavior of a response stream gets a function to send with, and holds its
    thread no longer than it runs.
    """

    def __init__(
        self, behavior: Callable[..., Any], pool: ThreadPoolExecutor, *, non_blocking: bool = False
    ) -> None:
        self._behavior = behavior
        # grpcio has one pool for a server and no public way to give a method another; its server
        # looks for attributes of these names on a behavior. A grpcio without them would run the
        # call on the server's pool.
        self.experimental_thread_pool = pool
        self.experimental_non_blocking = non_blocking

    def __call__(self, *arguments: Any) -> Any:
        return self._behavior(*arguments)
