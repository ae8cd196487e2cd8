"""Serving speed over REST, against FastAPI on uvicorn as everyone writes it first.

    .venv/bin/python benchmarks/rest.py [--cases=half_plus_two,mlp,image] [--connections=1,8,64]
        [--server "name=flags"]… [--svg=FILE] [--cache=FOLDER]

As benchmarks/predict.py, with wrk. The baseline runs in a scratch environment that is made with pip
the first time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import tensorflow as tf

import environments
import load
from models import Case, half_plus_two, image_content, mlp
from options import add_arguments, connections_of, method_of, servers_of
from report import report
from rest_target import JsonRequest, rest_contender
from rounds import compare
from servers import Program, cpus_of, end_with_sigterm, model_server_rest, running

CASES = {"half_plus_two": half_plus_two, "mlp": mlp, "image": image_content}


def rest_baseline(cache: Path, models: Path) -> Program:
    """FastAPI with every model below the directory, and with this environment's TensorFlow."""
    packages = ["fastapi", "uvicorn[standard]", f"tensorflow=={tf.__version__}"]
    python = environments.environment(cache, "fastapi", packages) / "python"
    served = [f"{base.name}={base / '1'}" for base in models.iterdir() if base.is_dir()]
    command = (str(python), str(Path(__file__).with_name("rest_baseline.py")), *served)
    return Program("baseline", command, r"Uvicorn running on http://127\.0\.0\.1:(\d+)")


def json_request(case: Case) -> JsonRequest:
    return JsonRequest(
        f"/v1/models/{case.model}:predict",
        {"instances": case.rows.tolist()},
        case.expected,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure predict over REST.")
    parser.add_argument("--cases", default=",".join(CASES), help="of: %(default)s")
    environments.add_argument(parser)
    add_arguments(parser, connections="1,8,64")
    arguments = parser.parse_args()
    load.require("wrk")
    server_cpus, load_cpus = map(cpus_of, (arguments.server_cpus, arguments.load_cpus))
    os.sched_setaffinity(0, load_cpus)
    end_with_sigterm()

    rows = []
    with ExitStack() as stack:
        models = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cases = {name: CASES[name](models) for name in arguments.cases.split(",")}
        programs = [rest_baseline(arguments.cache, models)] + [
            model_server_rest(name, flags, models) for name, flags in servers_of(arguments).items()
        ]
        servers = [stack.enter_context(running(program, server_cpus)) for program in programs]
        for name, case in cases.items():
            contenders = [rest_contender(server, json_request(case)) for server in servers]
            for connections in connections_of(arguments):
                rows += compare(name, connections, contenders, method_of(arguments))
                print(".", end="", file=sys.stderr, flush=True)
    report(rows, arguments.svg)


if __name__ == "__main__":
    main()
