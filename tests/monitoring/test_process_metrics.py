"""What the process takes of the machine, as the system tells."""

from __future__ import annotations

import platform
import sys
import time

import pytest

from serving.metrics.families import merged
from serving.metrics.registry import Metrics
from serving.monitoring.process_metrics import DESCRIPTIONS, ProcessMetrics


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    ProcessMetrics(metrics)
    return metrics


def value(metrics: Metrics, name: str) -> float:
    (cell,) = metrics.snapshot()[name].cells.values()
    return cell


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell less")
def test_everything_that_is_described_is_there(metrics: Metrics) -> None:
    snapshot = metrics.snapshot()
    assert set(snapshot) == {each.name for each in DESCRIPTIONS}
    for name, family in snapshot.items():
        assert all(cell > 0 for cell in family.cells.values()), name


def test_the_time_it_has_been_running_grows(metrics: Metrics) -> None:
    first = value(metrics, "model_server_uptime_seconds")
    assert 0 <= first < value(metrics, "model_server_uptime_seconds")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell less")
def test_it_started_in_the_past(metrics: Metrics) -> None:
    assert 0 < value(metrics, "process_start_time_seconds") < time.time()


def test_the_build_is_told_in_labels(metrics: Metrics) -> None:
    (labels,) = metrics.snapshot()["model_server_build_info"].cells
    assert labels[1] == platform.python_version()


def test_several_processes_are_added_up_but_for_what_is_the_server_s(metrics: Metrics) -> None:
    one = metrics.snapshot()
    both = merged([one, one])
    assert both["model_server_processes"].cells == {(): 2}
    assert both["model_server_build_info"] == one["model_server_build_info"]
    assert both["model_server_uptime_seconds"] == one["model_server_uptime_seconds"]
    if sys.platform == "linux":
        memory = "process_resident_memory_bytes"
        assert both[memory].cells[()] == 2 * one[memory].cells[()]
