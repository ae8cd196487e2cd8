"""Signatures that take only so many rows: what batching would join is refused by the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_models import constant, helper, save, value

from serving.batching.batching_options import BatchingOptions, QueueOptions, SchedulerOptions
from serving.batching.batching_session import BatchingServable
from serving.batching.shared_batch_scheduler import SharedBatchScheduler
from serving.core.errors import ServingError
from serving.core.servable import Outputs, RunOptions
from serving.core.servable_id import ServableId
from serving.loaders.onnx_loader import OnnxPlatform
from serving.testing import FakeClock


class Batched:
    """y = x + 1, exported for x of one shape, behind batching."""

    def __init__(self, folder: Path, shape: tuple[int, ...], options: BatchingOptions) -> None:
        inputs, outputs = [value("x", shape=shape)], [value("y", shape=shape)]
        node = helper.make_node("Add", ["x", "one"], ["y"])
        path = save(folder, [node], inputs, outputs, [constant("one", 1.0)])
        self.model, clock = OnnxPlatform().load(ServableId("m", 1), str(path)), FakeClock()
        self.scheduler = SharedBatchScheduler(SchedulerOptions(1), clock)
        self.servable = BatchingServable(self.model, self.model, self.scheduler, options, clock)

    def answers(self, *inputs: object) -> list[object]:
        """To requests that come at the same time."""
        results: list[Outputs | ServingError] = []
        for x in inputs:
            feeds = {"x": np.array(x, np.float32)}
            self.servable.run(feeds, ["y"], RunOptions(), results.append)
        while self.scheduler.run_once():
            pass
        return [each if isinstance(each, ServingError) else each[0].tolist() for each in results]


@pytest.mark.parametrize("adaptive", [False, True])
def test_requests_for_a_model_of_one_row_run_one_by_one(tmp_path: Path, adaptive: bool):
    batched = Batched(tmp_path, (1, 2), BatchingOptions(adaptive=adaptive))
    assert batched.answers([[1, 2]], [[3, 4]]) == [[[2, 3]], [[4, 5]]]


@pytest.mark.parametrize("adaptive", [False, True])
def test_requests_for_a_model_without_a_batch_dimension_run_one_by_one(
    tmp_path: Path, adaptive: bool
):
    batched = Batched(tmp_path, (), BatchingOptions(adaptive=adaptive))
    assert batched.answers(1, 2) == [2, 3]


def test_they_are_joined_where_every_batch_has_just_the_rows_of_the_model(tmp_path: Path):
    options = BatchingOptions(QueueOptions(max_batch_size=4), allowed_batch_sizes=(4,))
    batched = Batched(tmp_path, (4, 1), options)
    assert batched.answers([[1], [2]], [[3]]) == [[[2], [3]], [[4]]]
