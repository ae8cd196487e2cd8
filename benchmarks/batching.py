"""What batching is worth: rates and latencies with it and without, and what it costs itself.

    .venv/bin/python benchmarks/batching.py [--models=mlp,dense,cnn,text] [--variants=…]
        [--loads=closed=1,closed=64,open=0.5,open=0.8] [--grid=8,64x0,1000,5000]
        [--parameters "name=FILE"]… [--svg=FILE] [--png=FILE] [--quick]

Requests of one row go over gRPC to servers without batching, with batches of fixed settings, the
best of a grid for each model, and with adaptive ones. An open loop's requests arrive at random, at
a share of the best rate of the closed loops, with a deadline each. Servers run on one processor and
the load on another, in rounds that take turns; a server that does not take its parameters is named
and left out. Prints tables: the grid, the loads, the dense model's loop without a server, the
ratios, and the scheduler's own cost in this process. An asterisk marks rates at which the client
could not send in time or its processor was full. Rows per batch are by the server's metrics page.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc

import batching_report
import environments
import load
import scheduler_cost
from batch_sizes import batch_sizes
from batching_load import PATH, BatchingCase, ClosedLoop, OpenLoop, Share, generate, loads_of
from batching_models import CASES, check
from batching_variants import BUILT_IN, Setting, best, grid, parameters_of, program, rate
from options import add_method_arguments, method_of
from report import markdown
from rounds import Contender, Method, Row, compare
from servers import REST_READY, Server, cpus_of, end_with_sigterm, on_cpus, running

HERE = Path(__file__).parent
_CHECK_SECONDS = 60
_BARE_MODEL = "dense"
_BARE_SIZES = (1, 2, 4, 8, 16, 32, 64)
_BARE_SECONDS = 0.2  # of a size, for each second of a round
_SCHEDULER_REQUESTS = 8192
_QUICK = {
    "models": "mlp",
    "loads": "closed=16,open=0.3",
    "grid": "16x0,500",
    "rounds": 1,
    "seconds": 0.3,
    "warm_up_seconds": 0.1,
}


def contender(server: Server, channel: grpc.Channel, case: BatchingCase) -> Contender:
    """The server with one model; all requests are asked at once to check their answers."""
    call = channel.unary_unary(PATH)

    def ask() -> list[bytes]:
        futures = [call.future(request, timeout=_CHECK_SECONDS) for request in case.requests]
        answers = [future.result() for future in futures]
        check(case, answers)
        return answers

    length = len(ask()[0])
    rest_port = server.await_number(REST_READY)

    def put_under(loop: ClosedLoop | OpenLoop, seconds: float) -> load.Load:
        before = batch_sizes(rest_port)
        seen = generate(server.port, case, length, loop, seconds)
        return replace(seen, rows_per_batch=batch_sizes(rest_port).mean_since(before))

    return Contender(
        server,
        put_under,
        lambda: _expect({len(answer) for answer in ask()} == {length}),
    )


def _expect(same_length: bool) -> None:
    if not same_length:
        raise RuntimeError("the answers' lengths differ")


class Measurements:
    """Everything that is measured of the models, in the order in which it is."""

    def __init__(
        self, loads: Sequence[ClosedLoop | Share], settings: Sequence[Setting], method: Method
    ) -> None:
        self._loads = loads
        self._settings = [str(setting) for setting in settings]
        self._method = method
        self.tuning: list[Row] = []
        self.chosen: list[Row] = []
        self.rows: list[Row] = []
        self.bare: dict[str, dict[int, list[float]]] = {}

    @contextmanager
    def bare_loop(self, model: str, models: Path, cpus: set[int]) -> Iterator[None]:
        """The dense model without a server too, before what is done within and after it."""
        self._run_bare(model, models, cpus)
        yield
        self._run_bare(model, models, cpus)

    def measure(self, case: BatchingCase, contenders: Sequence[Contender]) -> None:
        """One model: the grid first, then all loads with the best of its settings."""
        stretched = replace(self._method, seconds=self._method.seconds * case.stretch)
        closed = _closed_loops(self._loads, case)
        fixed = [one for one in contenders if one.server.name in self._settings]
        chosen = [one.server.name for one in fixed]
        if len(fixed) > 1:
            once = replace(stretched, rounds=1)
            tuning = compare(case.model, max(closed, key=_in_flight), fixed, once)
            self.tuning += tuning
            self.chosen.append(best(tuning))
            chosen = [self.chosen[-1].server]
        compared = [one for one in contenders if one not in fixed or one.server.name in chosen]
        highest = 0.0
        for loop in closed:
            rows = self._compare(case, loop, compared, stretched)
            highest = max(highest, *map(rate, rows))
        for one in self._loads:
            if isinstance(one, Share):
                self._compare(case, OpenLoop(one.share * highest), compared, stretched)

    def _run_bare(self, model: str, models: Path, cpus: set[int]) -> None:
        if model == _BARE_MODEL:
            rates = bare_rates(models, _BARE_SECONDS * self._method.seconds, cpus)
            for size, rows in rates.items():
                self.bare.setdefault(model, {}).setdefault(size, []).append(rows)

    def _compare(
        self,
        case: BatchingCase,
        loop: ClosedLoop | OpenLoop,
        contenders: Sequence[Contender],
        method: Method,
    ) -> list[Row]:
        rows = compare(case.model, loop, contenders, method)
        self.rows += rows
        print(".", end="", file=sys.stderr, flush=True)
        return rows


def _closed_loops(loads: Sequence[ClosedLoop | Share], case: BatchingCase) -> list[ClosedLoop]:
    """Those asked for, with no more in flight than suits the model."""
    closed = [
        ClosedLoop(min(one.in_flight, case.most_in_flight))
        for one in loads
        if isinstance(one, ClosedLoop)
    ]
    return list(dict.fromkeys(closed))


def _in_flight(loop: ClosedLoop) -> int:
    return loop.in_flight


def start(
    parameters: Mapping[str, str | None], models: Path, cpus: set[int], stack: ExitStack
) -> tuple[list[Server], dict[str, str]]:
    """The servers, and those that do not serve with the last thing they said."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    servers, missing = [], {}
    for name, text in parameters.items():
        try:
            servers.append(
                stack.enter_context(running(program(name, text, models, directory), cpus))
            )
        except RuntimeError as error:
            missing[name] = str(error).strip().splitlines()[-1]
    return servers, missing


def bare_rates(models: Path, seconds: float, cpus: set[int]) -> dict[int, float]:
    """Rows per second of the model without a server, on the servers' processors."""
    command = (sys.executable, str(HERE / "bare_loop.py"), str(models / _BARE_MODEL / "1"))
    with on_cpus(cpus):
        result = subprocess.run(
            [*command, str(seconds), *map(str, _BARE_SIZES)], stdout=subprocess.PIPE, check=True
        )
    return {int(size): rows for size, rows in json.loads(result.stdout).items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure batching.")
    parser.add_argument("--models", default=",".join(CASES), help="of: %(default)s")
    parser.add_argument("--variants", default=",".join(BUILT_IN), help="of: %(default)s")
    parser.add_argument(
        "--parameters",
        action="append",
        metavar="NAME=FILE",
        default=[],
        help="a server with these BatchingParameters; repeatable",
    )
    parser.add_argument(
        "--loads",
        type=loads_of,
        default="closed=1,closed=64,open=0.5,open=0.8",
        help="requests in flight, and shares of the best rate: %(default)s",
    )
    parser.add_argument(
        "--grid",
        type=grid,
        default="8,64x0,1000,5000",
        help="sizes and timeouts of which the best is fixed: %(default)s",
    )
    parser.add_argument("--quick", action="store_true", help="only show that everything works")
    parser.add_argument("--png", help="file for a plot of rates and latencies")
    environments.add_argument(parser)
    add_method_arguments(parser)
    parser.set_defaults(seconds=1.5, warm_up_seconds=0.3)
    if parser.parse_args().quick:
        parser.set_defaults(**_QUICK)
    return parser.parse_args()


def measure(arguments: argparse.Namespace, measured: Measurements) -> dict[str, str]:
    """All models on all servers; those servers that do not serve, with the reason."""
    server_cpus, load_cpus = map(cpus_of, (arguments.server_cpus, arguments.load_cpus))
    os.sched_setaffinity(0, load_cpus)
    files = dict(text.split("=", 1) for text in arguments.parameters)
    parameters = parameters_of(arguments.variants.split(","), arguments.grid, files)
    with ExitStack() as stack:
        models = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cases = [CASES[name](models) for name in arguments.models.split(",")]
        servers, missing = start(parameters, models, server_cpus, stack)
        channels = [
            stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.port}"))
            for server in servers
        ]
        for case in cases:
            contenders = [
                contender(server, channel, case)
                for server, channel in zip(servers, channels, strict=True)
            ]
            with measured.bare_loop(case.model, models, server_cpus):
                measured.measure(case, contenders)
    return missing


def report(arguments: argparse.Namespace, measured: Measurements) -> None:
    """Print what was measured, and draw it where files are given."""
    if measured.tuning:
        print(f"\n{batching_report.settings_table(measured.tuning, measured.chosen)}")
    print(f"\n{batching_report.loads_table(measured.rows)}")
    if measured.bare:
        print(f"\n{batching_report.bare_table(measured.bare)}")
    print(f"\n{batching_report.ratios_table(measured.rows, measured.bare)}")
    if arguments.svg:
        batching_report.write_svg(Path(arguments.svg), measured.rows)
    if arguments.png:
        batching_report.write_png(Path(arguments.png), measured.rows, arguments.cache)


def main() -> None:
    arguments = _arguments()
    load.require("h2load")
    end_with_sigterm()
    logging.disable(logging.WARNING)

    measured = Measurements(arguments.loads, arguments.grid, method_of(arguments))
    missing = measure(arguments, measured)
    with on_cpus(cpus_of(arguments.server_cpus)):
        costs = scheduler_cost.costs(_SCHEDULER_REQUESTS, arguments.rounds)
    report(arguments, measured)
    print(f"\n{markdown(scheduler_cost.HEADS, scheduler_cost.cells(costs), names=0)}")
    for name, reason in missing.items():
        print(f"\n{name} is missing: {reason}")


if __name__ == "__main__":
    main()
