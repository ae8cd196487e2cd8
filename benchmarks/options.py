"""The options that every comparison has."""

from __future__ import annotations

import argparse
import shlex

from load import Connections
from rounds import Method


def add_arguments(parser: argparse.ArgumentParser, *, connections: str) -> None:
    parser.add_argument(
        "--server", action="append", metavar="NAME=FLAGS", help="a server with flags; repeatable"
    )
    parser.add_argument("--connections", default=connections, help="such as 1,64 or 8x8 streams")
    add_method_arguments(parser)


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that do not depend on what the servers and the load are."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round")
    parser.add_argument("--warm_up_seconds", type=float, default=1.0, help="before each round")
    parser.add_argument("--server_cpus", default="0", help="processors of the servers")
    parser.add_argument("--load_cpus", default="1", help="processors of the load generator")
    parser.add_argument("--svg", help="file for a plot of the ratios")


def method_of(arguments: argparse.Namespace) -> Method:
    return Method(arguments.rounds, arguments.seconds, arguments.warm_up_seconds)


def connections_of(arguments: argparse.Namespace) -> list[Connections]:
    return [Connections.parse(text) for text in arguments.connections.split(",")]


def servers_of(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Names and flags of the servers to compare; one without flags where none is named."""
    named = dict(text.split("=", 1) for text in arguments.server or ["model_server="])
    return {name: shlex.split(flags) for name, flags in named.items()}
