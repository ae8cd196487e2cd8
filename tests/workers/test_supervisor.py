"""What the supervisor counts of how its workers end."""

from __future__ import annotations

import errno
import os
import signal
import threading
from queue import SimpleQueue

import pytest
from channel_ends import WAIT_SECONDS, ChannelEnd

from serving.config.command_line import parse_command_line
from serving.config.options import server_options
from serving.core.errors import ServingError
from serving.testing import FakeClock
from serving.workers import supervisor
from serving.workers.channel import Channel
from serving.workers.messages import Opened, Permission, Ready
from serving.workers.replacements import replacements


class ProcessStandIn:
    """A worker that is the end of a channel here; any signal ends it."""

    pid = 1

    def __init__(self) -> None:
        self._end = ChannelEnd()
        self._status: SimpleQueue[int] = SimpleQueue()
        self.channel = Channel(self._end.other, "a worker")

    def serve(self) -> None:
        assert self._end.ask(Ready()) == Permission.OPEN
        self._end.channel.tell(Opened())

    def wait(self) -> int:
        return self._status.get()

    def send(self, number: signal.Signals) -> None:
        if not self._end.ended.is_set():
            self._end.end()
            self._status.put(-number)


class Machine:
    """Has as many processes to give as the test says."""

    def __init__(self) -> None:
        self.given: SimpleQueue[ProcessStandIn] = SimpleQueue()
        self.left = 1
        self.refusals = threading.Semaphore(0)

    def process(self, _name: str) -> ProcessStandIn:
        if not self.left:
            self.refusals.release()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.left -= 1
        self.given.put(process := ProcessStandIn())
        return process


def test_a_worker_that_ended_is_counted_once_however_often_no_process_can_be_had(
    monkeypatch: pytest.MonkeyPatch,
):
    clock, machine, counted = FakeClock(), Machine(), []
    monkeypatch.setattr(supervisor, "SystemClock", lambda: clock)
    monkeypatch.setattr(supervisor, "WorkerProcess", machine.process)
    flags = ["--model_base_path=/m", "--worker_hang_seconds=0"]
    events: SimpleQueue[ServingError | None] = SimpleQueue()
    workers = supervisor._Supervisor(server_options(parse_command_line(flags)), "info", events)
    monkeypatch.setattr(workers.fleet, "count", counted.append)
    workers.start()
    try:
        first = machine.given.get(timeout=WAIT_SECONDS)
        first.serve()
        assert events.get(timeout=WAIT_SECONDS) is None
        first.send(signal.SIGKILL)
        for _ in range(2):
            clock.await_waiters()
            clock.advance(60)
            assert machine.refusals.acquire(timeout=WAIT_SECONDS)
        clock.await_waiters()
        machine.left = 1
        clock.advance(60)
        machine.given.get(timeout=WAIT_SECONDS)
    finally:
        workers.stop()
    assert [each for each in counted if each != replacements()] == [replacements(ended=1)]
