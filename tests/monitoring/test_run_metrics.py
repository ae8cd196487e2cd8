"""Runs of a version: counted by API and outcome, timed, forgotten with it."""

from __future__ import annotations

import numpy as np
import pytest

from serving.core.errors import InvalidArgument, ServingError
from serving.core.servable import Outputs, RunOptions, run_and_wait
from serving.core.servable_id import ServableId
from serving.metrics.registry import Metrics
from serving.metrics.request_metrics import LATENCY_BOUNDS
from serving.monitoring.run_metrics import RunMetrics
from serving.testing import FakeServable

M7 = ServableId("m", 7)
FEEDS = {"x:0": np.float32([1])}
SECONDS = "model_server_run_duration_seconds"
IN_PROGRESS = "model_server_runs_in_progress"
RUNTIME = "/tensorflow/serving/runtime_latency"


def counts(metrics: Metrics, name: str) -> dict[tuple[str, ...], int]:
    return {labels: sum(cell.counts) for labels, cell in metrics.snapshot()[name].cells.items()}


def test_runs_are_counted_by_api_and_code() -> None:
    metrics = Metrics()
    servable = RunMetrics(metrics).measured(FakeServable(), M7, "tensorflow")
    for api in ("Predict", "Predict", "MultiInference"):
        (y,) = run_and_wait(servable, FEEDS, ["y:0"], RunOptions(api=api))
        assert y == [2.5]
    with pytest.raises(InvalidArgument):
        run_and_wait(servable, {}, ["y:0"], RunOptions(api="Predict"))
    assert counts(metrics, SECONDS) == {
        ("m", "7", "MultiInference", "OK"): 1,
        ("m", "7", "Predict", "INVALID_ARGUMENT"): 1,
        ("m", "7", "Predict", "OK"): 2,
    }


@pytest.mark.parametrize(
    ("platform", "runtime"), [("tensorflow", "TF1"), ("onnx", "onnx"), ("hashmap", "hashmap")]
)
def test_what_tensorflow_serving_counts_has_its_labels(platform: str, runtime: str) -> None:
    metrics = Metrics()
    servable = RunMetrics(metrics).measured(FakeServable(), M7, platform)
    for api in ("Predict", "Classify", "Regress", "MultiInference", ""):
        run_and_wait(servable, FEEDS, ["y:0"], RunOptions(api=api))
    with pytest.raises(InvalidArgument):
        run_and_wait(servable, {}, ["y:0"], RunOptions(api="Predict"))
    assert counts(metrics, RUNTIME) == {
        ("m", api, runtime): 1 for api in ("Classify", "Predict", "Regress")
    }
    snapshot = metrics.snapshot()
    assert snapshot[RUNTIME].description.bounds == LATENCY_BOUNDS
    micros = snapshot[RUNTIME].cells["m", "Predict", runtime].sum
    seconds = snapshot[SECONDS].cells["m", "7", "Predict", "OK"].sum
    assert micros == pytest.approx(seconds * 1e6)


def test_a_run_is_in_progress_until_it_is_done() -> None:
    metrics = Metrics()

    def in_progress() -> int:
        return metrics.snapshot()[IN_PROGRESS].cells["m", "7"]

    class Waiting(FakeServable):
        def run(self, feeds, fetches, options, done) -> None:
            self.done = done

    waiting = Waiting()
    servable = RunMetrics(metrics).measured(waiting, M7, "tensorflow")
    results: list[Outputs | ServingError] = []
    assert in_progress() == 0
    servable.run(FEEDS, ["y:0"], RunOptions(), results.append)
    assert in_progress() == 1
    waiting.done([1])
    assert in_progress() == 0
    assert results == [[1]]


def test_a_version_that_is_gone_is_forgotten_but_not_its_model() -> None:
    metrics = Metrics()
    runs = RunMetrics(metrics)
    for version in (7, 8):
        servable = runs.measured(FakeServable(), ServableId("m", version), "tensorflow")
        run_and_wait(servable, FEEDS, ["y:0"], RunOptions(api="Predict"))
    runs.forget(M7)
    snapshot = metrics.snapshot()
    assert list(snapshot[SECONDS].cells) == [("m", "8", "Predict", "OK")]
    assert list(snapshot[IN_PROGRESS].cells) == [("m", "8")]
    assert counts(metrics, RUNTIME) == {("m", "Predict", "TF1"): 2}


def test_whatever_else_a_servable_offers_is_there() -> None:
    fake = FakeServable()
    fake.instances = (1, 2)
    servable = RunMetrics(Metrics()).measured(fake, M7, "tensorflow")
    assert servable.signatures is fake.signatures
    assert servable.instances == (1, 2)
    assert not hasattr(servable, "graph_session")
    servable.close()
    assert fake.closed
