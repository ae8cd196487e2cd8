"""However long the server runs and whatever comes and goes, its memory stays what it was.

``SOAK_REQUESTS`` in the environment says how many requests each engine has to answer.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from serving.transport.grpc_options import ENGINES

ROOT = Path(__file__).parent.parent.parent
MEGABYTE = 2**20
SOAK_REQUESTS = int(os.environ.get("SOAK_REQUESTS", "200000"))
SLOWEST_RATE = 100  # requests a second, on a machine that does much else
WARM_UP = 0.2  # of the requests
GROWTH_BYTES = 8 * MEGABYTE
GROWTH_OBJECTS = 500
LATEST_SAMPLES = 5
MODEL_MEGABYTES = 64
CYCLES = 8
GROWTH_OF_LEAST_BYTES = 48 * MEGABYTE
ARENA_BYTES = 64 * MEGABYTE
"""glibc keeps what is free at the end of a thread's arena, which is never larger than that."""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("memory")


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("soak")


@pytest.fixture(autouse=True)
def servers_find_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.slow
@pytest.mark.timeout(SOAK_REQUESTS / SLOWEST_RATE + 180)
@pytest.mark.parametrize("engine", ENGINES)
def test_requests_leave_nothing_behind(soak: ModuleType, engine: str):
    connections = soak.Connections(8, 4)
    samples = list(soak.soak(SOAK_REQUESTS, connections, [f"--grpc_engine={engine}"]))
    warm = next(sample for sample in samples if sample.requests >= WARM_UP * SOAK_REQUESTS)
    last = samples[-1]

    assert last.requests >= SOAK_REQUESTS
    assert warm is not last
    assert last.resident_bytes - warm.resident_bytes < GROWTH_BYTES, samples
    # A sample now and then finds calls of connections that have just gone; what leaks is in all.
    least = min(sample.tracked_objects for sample in samples[-LATEST_SAMPLES:])
    assert least - warm.tracked_objects < GROWTH_OBJECTS, samples


@pytest.mark.slow
@pytest.mark.timeout(CYCLES * 60 + 180)
def test_models_that_come_and_go_leave_no_memory_behind(memory: ModuleType):
    """A part of one model may stay for the next, now more and now less, but not more and more."""
    first, *others = memory.cycles(CYCLES, MODEL_MEGABYTES)

    assert first.loaded - first.before > 0.9 * MODEL_MEGABYTES * MEGABYTE
    for cycle in others:
        assert cycle.unloaded < first.unloaded + 2 * ARENA_BYTES, others
        assert cycle.served < first.served + 2 * ARENA_BYTES, others
    least = min(cycle.unloaded for cycle in others[len(others) // 2 :])
    assert least < first.unloaded + GROWTH_OF_LEAST_BYTES, others
