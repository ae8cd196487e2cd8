"""Memory of the server while a large model comes and goes.

    .venv/bin/python benchmarks/memory.py [--megabytes=256] [--cycles=5] [--flags=FLAGS]

Makes a model of that size, has a running server load it, asks it, and has it unloaded, again and
again. Prints the server's resident memory: before, with the model loaded, after it has answered,
and once it is unloaded and memory had the time to go back to the system.
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from models import Case, half_plus_two, large
from servers import Server, end_with_sigterm, model_server, running

_LOAD_SECONDS = 300
_REQUESTS = 20
_RETURN_SECONDS = 30  # the server gathers what to give back for some seconds
_LOOK_SECONDS = 0.5
_MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Cycle:
    """Resident bytes of the server at four moments in the life of a version."""

    before: int
    loaded: int
    served: int
    unloaded: int


class LargeModel:
    """A model that a server is told to load and to unload, beside one that stays."""

    def __init__(self, server: Server, channel: grpc.Channel, models: Path, case: Case) -> None:
        self._server = server
        self._predict = channel.unary_unary(case.path)
        self._reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        self._models = models
        self._case = case

    def cycle(self, size: int) -> Cycle:
        """Load, ask and unload once. ``size``: bytes that are expected to come back."""
        before = self._server.resident_bytes()
        self._configure(self._case.model)
        loaded = self._server.resident_bytes()
        for _ in range(_REQUESTS):
            answer = self._predict(self._case.request.SerializeToString(), timeout=_LOAD_SECONDS)
            self._case.check(answer)
        served = self._server.resident_bytes()
        self._configure()
        self._await_return(served - size // 2)
        return Cycle(before, loaded, served, self._server.resident_bytes())

    def _configure(self, *names: str) -> None:
        """Have the server serve half_plus_two and these; returns when they are available."""
        request = model_management_pb2.ReloadConfigRequest()
        for name in ("half_plus_two", *names):
            request.config.model_config_list.config.add(
                name=name, base_path=str(self._models / name), model_platform="tensorflow"
            )
        status = self._reload(request, timeout=_LOAD_SECONDS).status
        if status.error_code:
            raise RuntimeError(f"the server does not load {names}: {status.error_message}")

    def _await_return(self, enough: int) -> None:
        """Return when the memory is at most that and falls no more, or after a while."""
        deadline = time.monotonic() + _RETURN_SECONDS
        last = self._server.resident_bytes()
        while time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
            now = self._server.resident_bytes()
            if now <= enough and now >= last:
                return
            last = now


def cycles(count: int, megabytes: int, flags: Sequence[str] = ()) -> Iterator[Cycle]:
    """A server's memory through so many lives of a model of that size."""
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        half_plus_two(models)
        program = model_server("memory", flags, models)  # for it there is this one model
        case = large(models, megabytes)
        with (
            running(program, os.sched_getaffinity(0)) as server,
            grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            model = LargeModel(server, channel, models, case)
            for _ in range(count):
                yield model.cycle(megabytes * _MEGABYTE)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the memory that unloads give back.")
    parser.add_argument("--megabytes", type=int, default=256, help="of the model's variables")
    parser.add_argument("--cycles", type=int, default=5, help="of load, requests and unload")
    parser.add_argument("--flags", default="", help="of the server")
    arguments = parser.parse_args()
    end_with_sigterm()

    print(f"resident memory of the server, MiB; the model has {arguments.megabytes} MiB")
    print(f"{'cycle':>5} {'before':>8} {'loaded':>8} {'served':>8} {'unloaded':>8}")
    flags = shlex.split(arguments.flags)
    for number, cycle in enumerate(cycles(arguments.cycles, arguments.megabytes, flags), 1):
        moments = (cycle.before, cycle.loaded, cycle.served, cycle.unloaded)
        print(f"{number:>5}", *(f"{moment / _MEGABYTE:>8.0f}" for moment in moments), flush=True)


if __name__ == "__main__":
    main()
