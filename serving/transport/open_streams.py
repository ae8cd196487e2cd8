"""Streams that clients hold open without end."""

from __future__ import annotations

import threading

import grpc


class OpenStreams:
    """Remembers streams, to cut them when the server stops. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._contexts: set[grpc.ServicerContext] = set()
        self._cancelled = False
        self.server_ends = False
        """From when on it is the server that ends streams, not their clients."""

    def add(self, context: grpc.ServicerContext) -> None:
        """Remember a stream until it ends, or end it where the others have been."""
        with self._lock:
            cancelled = self._cancelled
            self._contexts.add(context)
        if cancelled:
            context.cancel()
        if not context.add_callback(lambda: self._discard(context)):
            self._discard(context)

    def cancel(self) -> None:
        """End every stream, also those yet to come; its client sees CANCELLED."""
        with self._lock:
            self._cancelled = True
            contexts = list(self._contexts)
        for context in contexts:
            context.cancel()

    def _discard(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self._contexts.discard(context)
