"""What counting costs a call: the CPU time of each thing that is counted, and of all together.

python -m benchmarks.metrics_cost
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from serving.core.call import CallContext
from serving.core.servable import RunCallback, RunOptions, Servable
from serving.core.servable_id import ServableId
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS, RequestMetrics
from serving.monitoring.rpc_metrics import RpcMetrics
from serving.monitoring.run_metrics import RunMetrics
from serving.testing import FakeServable

_CALLS = 20_000
_REPEATS = 30


def main() -> None:
    """Print nanoseconds: the least of many measurements, as the others were disturbed."""
    for name, work in _works().items():
        seconds = timeit.repeat(
            partial(_again, work), number=1, repeat=_REPEATS, timer=time.process_time
        )
        print(f"{name:50} {min(seconds) / _CALLS * 1e9:8.0f} ns")


def _again(work: Callable[[], object]) -> None:
    for _ in range(_CALLS):
        work()


def _works() -> dict[str, Callable[[], object]]:
    metrics = Metrics(is_published=True)
    observe = metrics.histogram("/h", "", (), LATENCY_BOUNDS).cell().observe
    return {
        "nothing": lambda: None,
        "an observation": partial(observe, 123.0),
        "a request, not published": _request(Metrics()),
        "a request, published": _request(metrics),
        "a call of an empty handler": partial(_handle, b"", CallContext(), _ignore),
        "that call, counted": partial(
            RpcMetrics(metrics).measured("/s/m", _handle), b"", CallContext(), _ignore
        ),
        "a run of nothing": _run(_Nothing()),
        "that run, counted": _run(
            RunMetrics(metrics).measured(_Nothing(), ServableId("m", 1), "tensorflow")
        ),
    }


def _request(metrics: Metrics) -> Callable[[], object]:
    requests = RequestMetrics(metrics, "Predict", "GRPC")
    return lambda: requests.answered("m", "OK", requests.begun())


class _Nothing(FakeServable):
    """Is done at once."""

    def run(
        self,
        _feeds: Mapping[str, np.ndarray],
        _fetches: Sequence[str],
        _options: RunOptions,
        done: RunCallback,
    ) -> None:
        done(())


def _run(servable: Servable) -> Callable[[], object]:
    return partial(servable.run, {}, (), RunOptions(api="Predict"), _ignore)


def _handle(_request: bytes, _context: CallContext, reply: Callable[[bytes], object]) -> None:
    reply(b"")


def _ignore(_result: object) -> None:
    """Nobody waits for it."""


if __name__ == "__main__":
    main()
