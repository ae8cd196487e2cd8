"""The process of a server: it serves until a signal asks it to stop, and then ends in time."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from queue import SimpleQueue
from types import FrameType
from typing import Any

from serving import memory
from serving.config.options import ServerOptions
from serving.core.main_thread import next_of
from serving.model_server import ModelServer
from serving.peers import Peers

log = logging.getLogger(__name__)

_UNLOAD_SECONDS = 5.0
"""How long loads and runs that nobody waits for any more may hold up the end of the process."""


class _StopRequested(BaseException):
    """A signal came while the server was starting: nothing that runs then is worth finishing."""


def run(options: ServerOptions, peers: Peers | None = None) -> int:
    """Serve until SIGTERM or SIGINT; a second signal ends the process without waiting.

    A load, or a run of a model, that goes on after the grace period holds up the end of the
    process for five seconds at most. Returns the process's exit status. Raises ServingError when
    the server cannot start.
    """
    # Unlike an Event, a SimpleQueue may be put to by a handler that interrupts its reader.
    stop: SimpleQueue[None] = SimpleQueue()
    leave_in_seconds: SimpleQueue[float] = SimpleQueue()
    stopping = started = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            log.warning("second signal: ending without waiting")
            os._exit(128 + number)
        stopping = True
        log.info("%s: draining and stopping", signal.Signals(number).name)
        draining = options.drain_seconds if started else 0
        leave_in_seconds.put(draining + _UNLOAD_SECONDS)
        stop.put(None)
        if not started:
            raise _StopRequested

    threading.Thread(target=_leave, args=(leave_in_seconds,), name="leave", daemon=True).start()
    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, on_signal)
        memory.set_up()
        with ModelServer(options, peers):
            started = True
            next_of(stop)
    except _StopRequested:
        pass
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)
    log.info("stopped")
    return 0


def _leave(in_seconds: SimpleQueue[float]) -> None:
    """End the process that long after it was told to stop, if it is still there.

    TensorFlow can not be made to give up a load, nor every run.
    """
    time.sleep(in_seconds.get())
    log.warning("a load or a run of a model does not end: leaving without it")
    os._exit(0)
