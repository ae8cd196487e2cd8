"""Servers under measurement: processes on processors of their own, and the CPU time they take."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 180
_STOP_SECONDS = 20
_LOOK_SECONDS = 0.1
_LOOKS = 50
_END_LOOK_SECONDS = 0.01
_ANSWER_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Program:
    """A command that serves. ``ready``: a pattern of the line it prints when it does.

    The pattern's group, where it has one, is the port; otherwise the port is ``port``.
    """

    name: str
    command: Sequence[str]
    ready: str
    port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = ROOT


_GRPC_READY = r"Running gRPC ModelServer at 127\.0\.0\.1:(\d+)"
REST_READY = r"Exporting HTTP/REST API at:127\.0\.0\.1:(\d+)"


class Server:
    """A running program. ``output`` is what it has printed so far, errors included."""

    def __init__(
        self, program: Program, process: subprocess.Popen[str], cpus: Collection[int]
    ) -> None:
        self.name = program.name
        self.port = program.port
        self.output: list[str] = []
        self._process = process
        self._cpus = cpus
        self._ready = threading.Event()
        self._decided = threading.Event()
        self._pattern = re.compile(program.ready)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def await_ready(self) -> None:
        """Return once it serves. Raises RuntimeError, with its last words, when it does not."""
        self._decided.wait(_START_SECONDS)
        if not self._ready.is_set():
            raise RuntimeError(f"{self.name} does not serve:\n{''.join(self.output[-20:])}")

    def cpu_seconds(self) -> float:
        """User and system time so far, of the process and of all that descend from it."""
        return cpu_seconds(self._process.pid)

    def busy_seconds(self) -> float:
        """How long its processors have been busy so far, with whatever they did."""
        return busy_seconds(self._cpus)

    def resident_bytes(self) -> int:
        """The memory that the process occupies now, without that of its children."""
        return resident_bytes(self._process.pid)

    def await_idle(self) -> None:
        """Return once requests that nobody waits for any more are worked off.

        Some servers are never idle, so that it gives up after a while.
        """
        for _ in range(_LOOKS):
            before = self.cpu_seconds()
            time.sleep(_LOOK_SECONDS)
            if self.cpu_seconds() - before < _LOOK_SECONDS / 2:
                return

    def suspend(self) -> None:
        """Make its processes stand still, so that others have the processor to themselves."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes go on."""
        self._signal(signal.SIGCONT)

    def ask(self, number: signal.Signals, answer: str) -> int:
        """Send a signal that makes it print a line; the number in it, the group of ``answer``.

        Raises RuntimeError where no such line comes.
        """
        known = len(self.output)
        self._process.send_signal(number)
        return self.await_number(answer, known)

    def await_number(self, pattern: str, first_line: int = 0) -> int:
        """The number that is the group of the pattern, once it has printed such a line.

        Raises RuntimeError where no such line comes. Lines before the first do not count.
        """
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline:
            if found := re.search(pattern, "".join(self.output[first_line:])):
                return int(found[1])
            time.sleep(_END_LOOK_SECONDS)
        raise RuntimeError(f"{self.name} does not print {pattern}")

    def stop(self) -> None:
        """End it, and by force whatever of its process tree is left; return when that has ended."""
        self.resume()
        tree = {
            process: _start_tick(process) for process in _descendants(self._process.pid, _parents())
        }
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        for process in _running(tree):
            _send(process, signal.SIGKILL)
        self._process.wait()
        _await_end(tree)
        self._reader.join(_STOP_SECONDS)

    def _signal(self, number: signal.Signals) -> None:
        for process in _descendants(self._process.pid, _parents()):
            _send(process, number)

    def _read(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                self.output.append(line)
                if (found := self._pattern.search(line)) and not self._ready.is_set():
                    self.port = int(found[1]) if found.groups() else self.port
                    self._ready.set()
                    self._decided.set()
        self._decided.set()  # ended, whether it has ever served or not


@contextmanager
def running(program: Program, cpus: Collection[int]) -> Iterator[Server]:
    """The program, on these processors only, until the block is left."""
    with on_cpus(cpus):  # inherited by the process, and so by its threads and children
        process = subprocess.Popen(
            program.command,
            cwd=program.directory,
            env={**os.environ, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    server = Server(program, process, cpus)
    try:
        server.await_ready()
        yield server
    finally:
        server.stop()


def end_with_sigterm() -> None:
    """Make SIGTERM end this program as Ctrl-C does: with its servers, which may stand still."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def model_server(name: str, flags: Sequence[str], models: Path) -> Program:
    """The server of this project over gRPC, with every model below the directory."""
    return _model_server(name, flags, models, _GRPC_READY)


def model_server_rest(name: str, flags: Sequence[str], models: Path) -> Program:
    """The server of this project over REST, with every model below the directory."""
    rest = ("--rest_bind_address=127.0.0.1:0", *flags)
    return _model_server(name, rest, models, REST_READY)


def _model_server(name: str, flags: Sequence[str], models: Path, ready: str) -> Program:
    configs = "".join(
        f'config {{ name: "{base.name}" base_path: "{base}" model_platform: "tensorflow" }}\n'
        for base in models.iterdir()
        if base.is_dir()
    )
    config_file = models / "models.config"
    config_file.write_text(f"model_config_list {{\n{configs}}}\n")
    command = (
        sys.executable,
        str(ROOT / "server.py"),
        f"--model_config_file={config_file}",
        "--grpc_bind_address=127.0.0.1:0",
        *flags,
    )
    return Program(name, command, ready)


def resident_bytes(process: int) -> int:
    """The memory that a process occupies now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree so far, with that of children that have ended."""
    ticks = 0
    for process in _descendants(root, _parents()):
        ticks += sum(map(int, _stat(process)[11:15]))
    return ticks / _TICKS_PER_SECOND


def busy_seconds(cpus: Collection[int]) -> float:
    """How long these processors have not been idle since the machine started, all together."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _waiting, *rest = map(int, fields[:8])
            ticks += user + nice + system + sum(rest)
    return ticks / _TICKS_PER_SECOND


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _stat(process: int) -> list[str]:
    """What the kernel tells of a process, from its state on; zeros where it has ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 20
    return text.rpartition(")")[2].split()  # the name before it, in parentheses, holds anything


def _start_tick(process: int) -> int:
    """When it began: with its number it names a process even after the number is used again."""
    return int(_stat(process)[19])


def _running(tree: Mapping[int, int]) -> list[int]:
    """Those of these processes, by their start, that have not ended; a zombie has."""
    states = {process: _stat(process) for process in tree}
    return [
        process
        for process, start in tree.items()
        if states[process][0] not in "0ZX" and int(states[process][19]) == start
    ]


def _await_end(tree: Mapping[int, int]) -> None:
    """Return once none of them runs: a signal to kill is sent before it takes effect."""
    deadline = time.monotonic() + _STOP_SECONDS
    while _running(tree) and time.monotonic() < deadline:
        time.sleep(_END_LOOK_SECONDS)


def _parents() -> dict[int, int]:
    """The parent of every process there is."""
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {process: int(_stat(process)[1]) for process in processes}


def _descendants(root: int, parents: Mapping[int, int]) -> Iterator[int]:
    """The process and all that descend from it."""
    yield root
    for process, parent in parents.items():
        if parent == root:
            yield from _descendants(process, parents)


def cpus_of(text: str) -> set[int]:
    """Of ``0,1``, those that this machine has; all of them where it has none of these."""
    own = os.sched_getaffinity(0)
    return {int(cpu) for cpu in text.split(",")} & own or own


@contextmanager
def on_cpus(cpus: Collection[int]) -> Iterator[None]:
    """Within, this thread and what it starts run on these processors only."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)
