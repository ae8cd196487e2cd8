"""The server under load for as long as wanted: what its memory does meanwhile.

    .venv/bin/python benchmarks/soak.py [--requests=1000000] [--connections=8x4] [--flags=FLAGS]

Asks the server for half plus two over gRPC, in rounds between which it rests, and prints after
each how many requests it has answered, its resident memory and how many objects Python's garbage
collector tracks, after a collection. The load is h2load's; where that is missing, of grpcio's
clients.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

import load
from load import Connections, Target
from models import half_plus_two
from servers import Server, end_with_sigterm, model_server, running

HERE = Path(__file__).parent
_ROUNDS = 20
_ROUND_SECONDS = (1.0, 60.0)
_CHECK_SECONDS = 60
_MEGABYTE = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server holds, at rest, after so many requests."""

    requests: int
    resident_bytes: int
    tracked_objects: int


def soak(requests: int, connections: Connections, flags: Sequence[str] = ()) -> Iterator[Sample]:
    """At least so many requests, in rounds of a twentieth; a sample after each.

    Raises RuntimeError where a request fails, AssertionError where the answer is wrong.
    """
    with tempfile.TemporaryDirectory() as directory:
        case = half_plus_two(Path(directory))
        program = model_server("soak", flags, Path(directory))
        watched = (sys.executable, str(HERE / "watched_server.py"), *program.command[2:])
        with (
            running(replace(program, command=watched), os.sched_getaffinity(0)) as server,
            grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            call = channel.unary_unary(case.path)
            request = case.request.SerializeToString()
            answer = call(request, timeout=_CHECK_SECONDS)
            target = Target(server.port, case.path, request, len(answer))
            for sample in _rounds(server, target, connections, requests):
                case.check(call(request, timeout=_CHECK_SECONDS))
                yield sample


def _rounds(
    server: Server, target: Target, connections: Connections, requests: int
) -> Iterator[Sample]:
    generate = load.h2load if shutil.which("h2load") else load.grpc_clients
    shortest, longest = _ROUND_SECONDS
    done, seconds = 0, shortest
    while done < requests:
        answered = generate(target, connections, seconds).requests
        done += answered
        yield Sample(done, server.resident_bytes(), tracked_objects(server))
        seconds = min(max(shortest, seconds * requests / _ROUNDS / max(answered, 1)), longest)


def tracked_objects(server: Server) -> int:
    return server.ask(signal.SIGUSR1, r"tracked objects: (\d+)\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Watch the server's memory under load.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="that many or more")
    parser.add_argument("--connections", default="8x4", help="such as 64, or 8x8 streams")
    parser.add_argument("--flags", default="", help="of the server")
    arguments = parser.parse_args()
    end_with_sigterm()

    print(f"{'requests':>12} {'MiB':>8} {'objects':>8}")
    connections = Connections.parse(arguments.connections)
    for sample in soak(arguments.requests, connections, shlex.split(arguments.flags)):
        memory = sample.resident_bytes / _MEGABYTE
        print(f"{sample.requests:>12,} {memory:>8.1f} {sample.tracked_objects:>8}", flush=True)


if __name__ == "__main__":
    main()
