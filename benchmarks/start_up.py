"""What it takes to start: the command that only prints, the client's import, and servers.

    .venv/bin/python benchmarks/start_up.py [--rounds=5]

Prints the processor time, user and system of the process and its children, and the time that
passed, until a program has ended or a server listens on both ports with its models available;
of each the median of the rounds, and in parentheses the smallest and the largest. A round before
them is not counted, so that the files that are read are in memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from models import half_plus_two
from report import markdown, spread
from servers import REST_READY, ROOT, Program, end_with_sigterm, running

_CLIENT = ROOT / "clients" / "python"
_SERVER = (sys.executable, str(ROOT / "server.py"))
_LOOPBACK = ("--grpc_bind_address=127.0.0.1:0", "--rest_bind_address=127.0.0.1:0")


class Taken(NamedTuple):
    """Seconds of processors, user and system, and seconds that passed."""

    processor: float
    real: float


def ended(*command: str) -> Taken:
    """What a command takes until it has ended. Raises CalledProcessError where it fails."""
    started, before = time.perf_counter(), _children_seconds()
    subprocess.run(
        command,
        check=True,
        env={**os.environ, "PYTHONPATH": str(_CLIENT)},
        stdout=subprocess.DEVNULL,
    )
    return Taken(_children_seconds() - before, time.perf_counter() - started)


def ready(*flags: str) -> Taken:
    """What a server takes until it is ready. Raises RuntimeError where it never is."""
    program = Program("server", (*_SERVER, *_LOOPBACK, *flags), REST_READY)
    started = time.perf_counter()
    with running(program, os.sched_getaffinity(0)) as server:
        real = time.perf_counter() - started
        return Taken(server.cpu_seconds(), real)


def served(folder: Path) -> Mapping[str, Sequence[str]]:
    """The flags of servers, by what they serve; the models are written below the folder."""
    half_plus_two(folder)
    table = folder / "table" / "1"
    table.mkdir(parents=True)
    (table / "table.csv").write_text("key,value\n")
    models = {
        "no model": "",
        "a lookup table": _config(folder / "table", "hashmap"),
        "a SavedModel": _config(folder / "half_plus_two", "tensorflow"),
    }
    for name, config in models.items():
        (folder / f"{name}.config").write_text(f"model_config_list {{ {config} }}\n")
    return {name: [f"--model_config_file={folder}/{name}.config"] for name in models}


def cases(folder: Path) -> Mapping[str, Callable[[], Taken]]:
    """What is measured, by name."""
    imports = (sys.executable, "-c", "import model_server_client")
    return {
        "--help": lambda: ended(*_SERVER, "--help"),
        "--version": lambda: ended(*_SERVER, "--version"),
        "import of the client": lambda: ended(*imports),
        **{
            f"server with {name}": lambda flags=flags: ready(*flags)
            for name, flags in served(folder).items()
        },
    }


def _config(base: Path, platform: str) -> str:
    return f'config {{ name: "model" base_path: "{base}" model_platform: "{platform}" }}'


def _children_seconds() -> float:
    """User and system time of the children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _cells(name: str, taken: Sequence[Taken]) -> tuple[str, ...]:
    return (name, *(spread(seconds, 2) for seconds in zip(*taken, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what it takes to start.")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    end_with_sigterm()

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in cases(Path(folder)).items():
            measure()
            rows.append(_cells(name, [measure() for _ in range(arguments.rounds)]))
    print(markdown(("", "processor s", "real s"), rows, names=1))


if __name__ == "__main__":
    main()
