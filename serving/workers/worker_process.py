"""The process of one worker, as the supervisor holds it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path

from serving.workers.channel import Channel

_PATH = str(Path(__file__).parents[2])


class WorkerProcess:
    """A fresh interpreter: a copy of this process would lack the threads that libraries rely on.

    It inherits one end of a channel and nothing else, in a process group of its own, so that
    Ctrl-C reaches the supervisor alone.
    """

    def __init__(self, name: str) -> None:
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "serving.workers.worker", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                process_group=0,
                env={**os.environ, "PYTHONPATH": _python_path()},
            )
        self.channel = Channel(ours, name)

    @property
    def pid(self) -> int:
        """Of the process, also when it has ended."""
        return self._process.pid

    def wait(self) -> int:
        """Returns when the process has ended: its exit status, negative for a signal."""
        return self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """A signal for the process, if it is still there."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


def _python_path() -> str:
    """Where this very program is found first."""
    return os.pathsep.join(filter(None, (_PATH, os.environ.get("PYTHONPATH"))))
