"""Where the time of one Predict goes, layer by layer, in µs.

    .venv/bin/python benchmarks/profile_predict.py [--cases=half_plus_two,mlp] [--calls=5000]

The layers are called in this process, one call after the other, with a clock read where one hands
over to the next; each number is the median of the calls. The engine is the processor time of this
process for each answer to h2load by the gRPC server with a handler that returns a constant; without
h2load it is left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

import load
from load import Connections, Target
from models import CASES, Case
from servers import cpus_of, on_cpus
from serving.apis.tensorflow_serving.prediction_service import PredictionService
from serving.core.call import CallContext, Reply
from serving.core.clock import SystemClock
from serving.core.errors import ServingError
from serving.core.model_config import ModelConfig
from serving.core.models import Leased, ModelSpec
from serving.core.servable import Outputs, RunCallback, RunOptions, Servable, Signature
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.loaders.platforms import Platforms
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.metrics.registry import Metrics
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions
from serving.transport.grpc_server import GrpcOptions, GrpcServer

_WARM_UP_CALLS = 200
_STAGES = (
    "request bytes to message",
    "look-up of the version",
    "checks, inputs to arrays",
    "run in TensorFlow",
    "outputs to response bytes",
)


class Marks:
    """When each layer handed over to the next, in ns."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def mark(self) -> None:
        self.times.append(time.perf_counter_ns())


class MarkedServable:
    """A servable that marks the beginning and the end of every run."""

    def __init__(self, servable: Servable, marks: Marks) -> None:
        self._servable = servable
        self._marks = marks

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        def marked(outputs: Outputs | ServingError) -> None:
            self._marks.mark()
            done(outputs)

        self._marks.mark()
        self._servable.run(feeds, fetches, options, marked)

    def close(self) -> None:
        self._servable.close()


class MarkedCore(ServerCore):
    """The configured models, with marks around every look-up and every run."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        super().__init__(
            LifecycleOptions(),
            Platforms({"tensorflow": TensorFlowOptions()}),
            clock=SystemClock(),
            wrap=self._marked,
        )

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        def marked(handle: ServableHandle | ServingError) -> None:
            self._marks.mark()
            leased(handle)

        self._marks.mark()
        super().lease(spec, deadline, marked)

    def _marked(self, _id: ServableId, _path: str, servable: Servable) -> Servable:
        return MarkedServable(servable, self._marks)


def stages(case: Case, models: Path, calls: int) -> list[float]:
    """Median µs of each stage of one call."""
    marks, answers = Marks(), []
    core = MarkedCore(marks)
    core.start([ModelConfig(case.model, str(models / case.model), "tensorflow")])
    handler = PredictionService(core, Metrics()).methods()[case.path]
    request = case.request.SerializeToString()
    taken = []
    for index in range(_WARM_UP_CALLS + calls):
        marks.times.clear()
        answers.clear()
        marks.mark()
        # The deadline that most clients send; a call without one has less to do.
        handler(request, CallContext(deadline=time.monotonic() + 30), answers.append)
        marks.mark()
        if index >= _WARM_UP_CALLS:
            taken.append([(end - start) / 1e3 for start, end in pairwise(marks.times)])
    core.stop()
    case.check(answers[0])
    return [statistics.median(stage) for stage in zip(*taken, strict=True)]


def engine(case: Case, answer: bytes, seconds: float, load_cpus: set[int]) -> float:
    """Processor µs of this process for each call that is answered with a constant."""

    def constant(_request: bytes, _context: CallContext, reply: Reply) -> None:
        reply(answer)

    server = GrpcServer(GrpcOptions("127.0.0.1:0"), {case.path: constant})
    server.start()
    request = case.request.SerializeToString()
    target = Target(server.port, case.path, request, len(answer))
    with on_cpus(load_cpus):
        load.h2load(target, Connections(8), seconds)
        before = time.process_time()
        answered = load.h2load(target, Connections(8), seconds).requests
        spent = time.process_time() - before
    server.stop(0)
    return spent / answered * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the stages of one Predict.")
    parser.add_argument("--cases", default=",".join(CASES), help="of: %(default)s")
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load on the engine")
    parser.add_argument("--server_cpus", default="0", help="processors of everything else")
    parser.add_argument("--load_cpus", default="1", help="processors of the load generator")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    server_cpus, load_cpus = map(cpus_of, (arguments.server_cpus, arguments.load_cpus))
    os.sched_setaffinity(0, server_cpus)  # the threads to come inherit it

    names = arguments.cases.split(",")
    columns = []
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        for name in names:
            case = CASES[name](models)
            taken = stages(case, models, arguments.calls)
            if shutil.which("h2load"):
                taken.insert(0, engine(case, b"\0" * 64, arguments.seconds, load_cpus))
            columns.append([*taken, sum(taken)])
    heads = ("engine and sockets",) if shutil.which("h2load") else ()
    print(f"{'µs':<28}" + "".join(f"{name:>15}" for name in names))
    for stage, row in zip((*heads, *_STAGES, "together"), zip(*columns, strict=True), strict=True):
        print(f"{stage:<28}" + "".join(f"{value:>15.1f}" for value in row))


if __name__ == "__main__":
    main()
