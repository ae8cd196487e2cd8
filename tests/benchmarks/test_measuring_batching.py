"""What the measurements of batching stand on: arrivals, loads, the choice of a setting, tables."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

ROOT = Path(__file__).parent.parent.parent

Import = Callable[[str], ModuleType]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Import:
    """A module of benchmarks/, which are programs and therefore no package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_arrivals_are_a_poisson_process_and_the_same_every_time(module: Import):
    client = module("batching_client")
    times = list(client.arrivals(1000, 10))
    assert times == list(client.arrivals(1000, 10))
    assert 0 < times[0] <= times[-1] < 10
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(1e-3, rel=0.05)
    # Of an exponential distribution, the deviation is the mean.
    assert statistics.stdev(gaps) == pytest.approx(1e-3, rel=0.05)


@contextmanager
def server(answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> Iterator[int]:
    """A gRPC server of Predict; its port."""
    handler = grpc.unary_unary_rpc_method_handler(answer)
    served = grpc.server(ThreadPoolExecutor(4))
    served.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "tensorflow.serving.PredictionService", {"Predict": handler}
            )
        ]
    )
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    try:
        yield port
    finally:
        served.stop(None).wait()


def run_client(port: int, *arguments: str, requests: Sequence[bytes]) -> dict[str, Any]:
    command = (sys.executable, "benchmarks/batching_client.py", f"127.0.0.1:{port}")
    result = subprocess.run(
        [*command, "/tensorflow.serving.PredictionService/Predict", *arguments],
        cwd=ROOT,
        input=b"".join(len(one).to_bytes(4, "big") + one for one in requests),
        stdout=subprocess.PIPE,
        check=True,
    )
    seen: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return seen


def test_the_client_sends_all_messages_in_turn_and_counts_what_became_of_them(module: Import):
    asked: list[bytes] = []

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        asked.append(request)
        if request == b"refused":
            context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return b"12345"

    with server(answer) as port:
        seen = run_client(port, "open", "200", "0.5", "30", requests=[b"good", b"refused"])
    due = len(list(module("batching_client").arrivals(200, 0.5)))
    assert seen["codes"] == {"OK": (due + 1) // 2, "UNAVAILABLE": due // 2}
    assert seen["lengths"] == [5]
    assert len(seen["latencies_us"]) == (due + 1) // 2
    assert asked.count(b"good") == (due + 1) // 2


def test_a_closed_loop_has_as_many_in_flight_as_it_should():
    first, numbers, lock = threading.Barrier(3), itertools.count(), threading.Lock()
    in_flight, most = 0, 0

    def answer(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        nonlocal in_flight, most
        with lock:
            in_flight += 1
            most = max(most, in_flight)
        if next(numbers) < 3:
            first.wait(30)
        with lock:
            in_flight -= 1
        return b""

    with server(answer) as port:
        seen = run_client(port, "closed", "3", "0.3", "30", requests=[b"request"])
    assert most == 3
    assert seen["codes"]["OK"] == len(seen["latencies_us"]) > 3


def seen_by_client(codes: dict[str, int], late_us: float) -> dict[str, Any]:
    latencies = [1000] * codes.get("OK", 0)
    return {"codes": codes, "latencies_us": latencies, "cpu_seconds": 0.5, "late_us": late_us}


def test_refusals_and_missed_deadlines_are_counted_and_other_errors_are_none_of_them(
    module: Import,
):
    batching_load = module("batching_load")
    codes = {"OK": 8, "UNAVAILABLE": 2, "RESOURCE_EXHAUSTED": 1, "DEADLINE_EXCEEDED": 4}
    load = batching_load.seen_by_client(seen_by_client(codes, 50), 2.0)
    assert (load.requests, load.rejected, load.missed) == (8, 3, 4)
    assert not load.late
    with pytest.raises(RuntimeError, match="INTERNAL"):
        batching_load.seen_by_client(seen_by_client({"INTERNAL": 1}, 0), 2.0)


def test_a_client_that_is_late_by_a_tenth_of_the_slowest_answers_says_so(module: Import):
    load = module("batching_load").seen_by_client(seen_by_client({"OK": 8}, 101), 2.0)
    assert load.late


def test_loads_are_closed_loops_and_shares_of_their_rate(module: Import):
    batching_load = module("batching_load")
    loads = batching_load.loads_of("closed=64,open=0.8")
    assert loads == [batching_load.ClosedLoop(64), batching_load.Share(0.8)]
    with pytest.raises(ValueError, match="a load is"):
        batching_load.loads_of("half=2")
    with pytest.raises(ValueError, match="of which there is none"):
        batching_load.loads_of("open=0.8")


def row(module: Import, server: str, rates: Sequence[float], p99_us: float = 9.0, **load: int):
    rounds, loads = module("rounds"), module("load")
    samples = [
        rounds.Sample(loads.Load(rate, 1.0, 5.0, p99_us, 0.5, **load), 100.0, 0.0) for rate in rates
    ]
    closed = module("batching_load").ClosedLoop(64)
    return rounds.Row("dense", closed, server, samples, [1.0] * len(rates))


def test_the_best_setting_is_the_quickest_to_answer_of_those_next_to_the_highest_rate(
    module: Import,
):
    rows = [
        row(module, "fast and slow to answer", [100], 50.0),
        row(module, "nearly as fast", [96], 20.0),
        row(module, "quick to answer", [90], 10.0),
    ]
    assert module("batching_variants").best(rows).server == "nearly as fast"


def test_a_grid_is_all_combinations_each_with_its_file(module: Import):
    variants = module("batching_variants")
    settings = variants.grid("8,64x0,1000")
    named = variants.parameters_of(["unbatched", "fixed"], settings, {})
    assert list(named) == [
        "unbatched",
        "fixed 8 rows, 0 µs",
        "fixed 8 rows, 1000 µs",
        "fixed 64 rows, 0 µs",
        "fixed 64 rows, 1000 µs",
    ]
    assert named["unbatched"] is None
    assert "max_batch_size { value: 64 }" in named["fixed 64 rows, 0 µs"]
    with pytest.raises(ValueError, match="largest"):
        variants.parameters_of(["largest"], settings, {})


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_ratios_are_taken_round_by_round_and_the_bare_loop_is_taken_at_its_best(module: Import):
    report = module("batching_report")
    rows = [row(module, "unbatched", [100, 200]), row(module, "fixed 8 rows, 0 µs", [300, 400])]
    table = report.ratios_table(rows, {"dense": {1: [150.0, 250.0], 64: [400.0, 600.0]}})
    assert cells(table) == [
        ["dense", "64 in flight", "fixed / unbatched", "2.50 (2.00-3.00)"],
        ["dense", "64 in flight", "unbatched / bare loop", "0.30"],
        ["dense", "64 in flight", "fixed / bare loop", "0.70"],
    ]


def test_the_table_tells_what_share_of_the_requests_was_refused_or_too_late(module: Import):
    table = module("batching_report").loads_table([row(module, "a", [6], rejected=1, missed=3)])
    assert cells(table)[0][-3:-1] == ["10.0", "30.0"]


def test_low_rates_have_decimals(module: Import):
    assert str(module("batching_load").OpenLoop(5.25)) == "5.2/s"
    assert str(module("batching_load").OpenLoop(5250.4)) == "5,250/s"
    assert module("report").seen(row(module, "a", [6, 7]))[0] == "6.5 (6.0-7.0)"


def test_the_scheduler_answers_whatever_the_threads_and_sizes(module: Import):
    measured = module("scheduler_cost").costs(256, 1)
    assert [(one.num_threads, one.batch_size) for one in measured] == [
        *((1, 1), (1, 8), (1, 64), (4, 1), (4, 8), (4, 64))
    ]
    assert all(one.cpu_us > 0 for one in measured)


def test_rows_per_batch_are_those_of_the_batches_since_the_last_look(module: Import):
    sizes = module("batch_sizes").BatchSizes
    assert sizes(batches=5, rows=70).mean_since(sizes(batches=1, rows=10)) == 15
    assert sizes(batches=5, rows=70).mean_since(sizes(batches=5, rows=70)) is None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_runs(tmp_path: Path):
    if shutil.which("h2load") is None:
        pytest.skip("h2load is not installed")
    plot = tmp_path / "plot.svg"
    result = subprocess.run(
        [sys.executable, "benchmarks/batching.py", "--quick", f"--svg={plot}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "| fixed / unbatched " in result.stdout
    assert plot.exists()
