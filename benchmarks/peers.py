"""Serving speed of other servers with half plus two inside, over REST, and of this one.

    .venv/bin/python benchmarks/peers.py [--peers=mlserver,litserve,bentoml,ray] [--svg=FILE]
        [--cache=FOLDER]

As benchmarks/rest.py. Each peer is written as its own documentation says, in
benchmarks/peer_servers/, with its defaults except that it does not log every request, and runs in
a scratch environment that is made with pip the first time. One that cannot be installed or does
not serve is named below the table, with the reason.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import load
from models import Case, half_plus_two
from options import add_arguments, connections_of, method_of, servers_of
from report import report
from rest import json_request, rest_baseline
from rest_target import JsonRequest, await_answer, rest_contender
from rounds import Contender, compare
from servers import Program, cpus_of, end_with_sigterm, model_server_rest, running

HERE = Path(__file__).parent / "peer_servers"


@dataclass(frozen=True, slots=True)
class Peer:
    """How a server is installed, started (with its folder of programs and a port) and asked."""

    packages: Sequence[str]
    command: Callable[[Path, str, int], Sequence[str]]
    path: str
    document: Callable[[list[float]], Any] = lambda values: {"instances": values}
    values: Callable[[Any], Any] = lambda answer: answer["predictions"]
    directory: Path = HERE


PEERS = {
    "mlserver": Peer(
        # Its workers do not start on later versions of uvloop.
        ["mlserver", "uvloop<0.22", "tensorflow"],
        lambda programs, _model, _port: [str(programs / "mlserver"), "start", "."],
        "/v2/models/half_plus_two/infer",
        document=lambda values: {
            "inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP32", "data": values}]
        },
        values=lambda answer: answer["outputs"][0]["data"],
        directory=HERE / "mlserver_model",
    ),
    "litserve": Peer(
        ["litserve", "tensorflow"],
        lambda programs, model, port: [
            *(str(programs / "python"), "litserve_server.py", model, str(port))
        ],
        "/predict",
    ),
    "bentoml": Peer(
        ["bentoml", "tensorflow"],
        lambda programs, _model, port: [
            *(str(programs / "bentoml"), "serve", "bentoml_service:HalfPlusTwo"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        "/predict",
        values=lambda answer: answer,
    ),
    "ray": Peer(
        ["ray[serve]", "tensorflow"],
        lambda programs, model, port: [
            *(str(programs / "python"), "ray_application.py", model, str(port))
        ],
        "/",
    ),
}


def program(name: str, peer: Peer, cache: Path, model: Path) -> Program:
    """The peer, installed. Raises RuntimeError where that fails."""
    programs = environments.environment(cache, name, peer.packages)
    package = peer.packages[0].partition("[")[0]
    # None of them takes port 0 and tells which one it got.
    port, other, third = free_ports(3)
    return Program(
        f"{package} {environments.version(programs, package)}",
        peer.command(programs, str(model), port),
        ready="",
        port=port,
        environment={
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "SAVED_MODEL": str(model),
            "MLSERVER_HTTP_PORT": str(port),
            "MLSERVER_GRPC_PORT": str(other),
            "MLSERVER_METRICS_PORT": str(third),
            "MLSERVER_DEBUG": "false",  # which logs every request
            "BENTOML_DO_NOT_TRACK": "true",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        directory=peer.directory,
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def answering(program: Program, peer: Peer, case: Case, cpus: set[int]) -> Iterator[Contender]:
    """The peer, once it gives the right answer. Raises RuntimeError where it does not."""
    asked = JsonRequest(peer.path, peer.document(case.rows.tolist()), case.expected, peer.values)
    with running(program, cpus) as server:
        contender = rest_contender(server, asked)
        await_answer(contender)
        yield contender


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure other servers over REST.")
    parser.add_argument("--peers", default=",".join(PEERS), help="of: %(default)s")
    environments.add_argument(parser)
    add_arguments(parser, connections="1,64")
    arguments = parser.parse_args()
    load.require("wrk")
    server_cpus, load_cpus = map(cpus_of, (arguments.server_cpus, arguments.load_cpus))
    os.sched_setaffinity(0, load_cpus)
    end_with_sigterm()

    rows, missing = [], {}
    with ExitStack() as stack:
        models = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        case = half_plus_two(models)
        programs = [rest_baseline(arguments.cache, models)] + [
            model_server_rest(name, flags, models) for name, flags in servers_of(arguments).items()
        ]
        contenders = [
            rest_contender(stack.enter_context(running(each, server_cpus)), json_request(case))
            for each in programs
        ]
        model = models / case.model / "1"
        for name in filter(None, arguments.peers.split(",")):
            try:
                peer = PEERS[name]
                installed = program(name, peer, arguments.cache, model)
                contenders.append(
                    stack.enter_context(answering(installed, peer, case, server_cpus))
                )
            except (RuntimeError, subprocess.CalledProcessError) as error:
                missing[name] = error
        for connections in connections_of(arguments):
            rows += compare(case.name, connections, contenders, method_of(arguments))
            print(".", end="", file=sys.stderr, flush=True)
    report(rows, arguments.svg)
    for name, error in missing.items():
        print(f"\n{name} is missing: {error}")


if __name__ == "__main__":
    main()
