"""The program as a process of its own: started, listened to, sent signals."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stock_clients import WAIT_SECONDS, await_
from waiting import START_SECONDS

PROGRAM = Path(__file__).parents[2] / "server.py"
_COMMAND = (sys.executable, str(PROGRAM))
_LOOPBACK = ("--grpc_bind_address=127.0.0.1:0", "--rest_bind_address=127.0.0.1:0")


class RunningProgram:
    """One process, whose standard error is read as it comes."""

    def __init__(self, *flags: str, command: Sequence[str] = _COMMAND) -> None:
        self.process = subprocess.Popen(
            [*command, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._log: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        return "".join(self._log)

    @property
    def grpc_port(self) -> int:
        """Waits until the program tells it."""
        return int(self.await_log(r"Running gRPC ModelServer at 127\.0\.0\.1:(\d+) \.\.\.")[1])

    @property
    def rest_port(self) -> int:
        """Waits until the program tells it."""
        return int(self.await_log(r"Exporting HTTP/REST API at:127\.0\.0\.1:(\d+) \.\.\.")[1])

    def await_log(self, pattern: str, seconds: float = WAIT_SECONDS) -> re.Match[str]:
        """The first match in what the program writes to standard error."""
        found: list[re.Match[str]] = []

        def matches() -> bool:
            ended = self.process.poll() is not None
            if match := re.search(pattern, self.log):
                found.append(match)
            assert found or not ended, f"ended without {pattern!r}:\n{self.log}"
            return bool(found)

        await_(matches, lambda: f"{pattern!r} in:\n{self.log}", seconds)
        return found[0]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Waits for the end; the exit status and everything on standard output."""
        status = self.process.wait(START_SECONDS)  # several processes may have begun in it
        self._reader.join()
        return status, self.process.stdout.read()

    def close(self) -> None:
        """End it by force if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self) -> None:
        self._log.extend(self.process.stderr)


@contextmanager
def program(*flags: str, command: Sequence[str] = _COMMAND) -> Iterator[RunningProgram]:
    """The program on loopback ports that the system picks; later flags override these."""
    running = RunningProgram(*_LOOPBACK, *flags, command=command)
    try:
        yield running
    finally:
        running.close()
