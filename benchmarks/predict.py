"""Serving speed over gRPC, against the server that everyone writes first.

    .venv/bin/python benchmarks/predict.py [--cases=half_plus_two,mlp] [--connections=1,8,64]
        [--server "threads=--grpc_max_threads=4"]… [--load=h2load|grpcio] [--svg=FILE]

Servers run on one processor and the load on another, in rounds that take turns. Prints one table:
medians, with the smallest and largest of the rounds; CPU is the server's for each request, user
and system; the last column is the rate against that of the baseline in the same round. An asterisk
marks rates at which the load generator's processor was full.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc

import load
from load import Connections, Load, Target
from models import CASES, Case
from options import add_arguments, connections_of, method_of, servers_of
from report import report
from rounds import Contender, compare
from servers import Program, Server, cpus_of, end_with_sigterm, model_server, running

HERE = Path(__file__).parent
_CHECK_SECONDS = 60
_GENERATORS: Mapping[str, Callable[[Target, Connections, float], Load]] = {
    "h2load": load.h2load,
    "grpcio": load.grpc_clients,
}


def baseline(models: Path) -> Program:
    """The baseline with every model below the directory."""
    served = [f"{base.name}={base / '1'}" for base in models.iterdir() if base.is_dir()]
    command = (sys.executable, str(HERE / "baseline_server.py"), *served)
    return Program("baseline", command, r"listening on 127\.0\.0\.1:(\d+)")


def contender(
    server: Server,
    channel: grpc.Channel,
    case: Case,
    generate: Callable[[Target, Connections, float], Load],
) -> Contender:
    """The server with one case: asked once through the stub's serializers, then under load."""
    request = case.request.SerializeToString()
    # Like the stock stub, but the bytes are kept: their length is that of all answers.
    call = channel.unary_unary(case.path)

    def ask() -> bytes:
        answer: bytes = call(request, timeout=_CHECK_SECONDS)
        case.check(answer)
        return answer

    target = Target(server.port, case.path, request, len(ask()))
    return Contender(
        server,
        lambda connections, seconds: generate(target, connections, seconds),
        lambda: _expect(len(ask()) == target.response_bytes),
    )


def _expect(same_length: bool) -> None:
    if not same_length:
        raise RuntimeError("the answer has changed its length")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure Predict and Classify over gRPC.")
    parser.add_argument("--cases", default=",".join(CASES), help="of: %(default)s")
    parser.add_argument("--load", choices=_GENERATORS, default="h2load", help="which clients")
    add_arguments(parser, connections="1,8,64")
    arguments = parser.parse_args()
    if arguments.load == "h2load":
        load.require("h2load")
    server_cpus, load_cpus = map(cpus_of, (arguments.server_cpus, arguments.load_cpus))
    os.sched_setaffinity(0, load_cpus)
    end_with_sigterm()

    rows = []
    with ExitStack() as stack:
        models = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cases = [CASES[name](models) for name in arguments.cases.split(",")]
        programs = [baseline(models)] + [
            model_server(name, flags, models) for name, flags in servers_of(arguments).items()
        ]
        servers = [stack.enter_context(running(program, server_cpus)) for program in programs]
        channels = [
            stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.port}"))
            for server in servers
        ]
        for case in cases:
            contenders = [
                contender(server, channel, case, _GENERATORS[arguments.load])
                for server, channel in zip(servers, channels, strict=True)
            ]
            for connections in connections_of(arguments):
                rows += compare(case.name, connections, contenders, method_of(arguments))
                print(".", end="", file=sys.stderr, flush=True)
    report(rows, arguments.svg)


if __name__ == "__main__":
    main()
